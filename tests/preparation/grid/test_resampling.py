"""Resampling keeps positions and sizes in mm and times over the beat; the scale of intensities ignores outliers."""

import numpy as np
import pytest

from cpgg_hf.preparation.grid.resampling import normalise, resample_beat, resample_field


@pytest.mark.parametrize("num_acquired", [8, 13, 25, 50, 100])
def test_any_number_of_frames_becomes_50_at_the_right_times(num_acquired):
    phases = np.arange(num_acquired) / num_acquired

    def curve(phase):
        return 100 - 40 * np.cos(2 * np.pi * phase) + 12 * np.sin(4 * np.pi * phase)

    resampled = resample_beat(curve(phases)[:, None, None], phases, 50)[:, 0, 0]
    assert np.abs(resampled - curve(np.arange(50) / 50)).max() < (4 if num_acquired == 8 else 1)
    assert resampled[0] == pytest.approx(curve(0))


def test_uneven_times_are_honoured():
    phases = np.sort(np.random.default_rng(0).uniform(0, 1, 30))
    phases[0] = 0
    resampled = resample_beat(np.cos(2 * np.pi * phases)[:, None, None], phases, 50)[:, 0, 0]
    assert np.abs(resampled - np.cos(2 * np.pi * np.arange(50) / 50)).max() < 0.02


def test_resampling_keeps_size_and_place_in_mm():
    rows, columns = np.mgrid[:80, :120]
    blob = np.exp(-0.5 * (((rows - 39.5) * 2.0 / 12) ** 2 + ((columns - 59.5) * 1.2 / 12) ** 2))
    resampled = resample_field(blob[None], np.array([2.0, 1.2]), 1.8)[0]
    assert resampled.shape == (89, 80)
    rows, columns = np.mgrid[:89, :80]
    for index, coordinate in ((0, rows), (1, columns)):
        middle = (coordinate * resampled).sum() / resampled.sum()
        width = np.sqrt(((coordinate - middle) ** 2 * resampled).sum() / resampled.sum()) * 1.8
        assert middle == pytest.approx((resampled.shape[index] - 1) / 2, abs=0.01)
        assert width == pytest.approx(12, rel=0.01)


def test_the_1st_percentile_becomes_0_and_the_99th_becomes_0_9():
    """Models are trained on this scale. 1,001 levels from 1000 to 2000: percentile p is 1000 + 10 p."""
    levels = np.random.default_rng(0).permutation(np.arange(1000.0, 2001.0)).reshape(7, 11, 13)
    scaled = normalise(levels.astype(np.float32))
    for level, expected in [(1000, 0), (1010, 0), (1500, 0.45), (1990, 0.9), (2000, 0.9 * 990 / 980)]:
        assert scaled[levels == level] == pytest.approx(expected, abs=1e-6), level
    assert scaled.dtype == np.float32


def test_scale_is_shared_by_all_frames():
    frames = np.stack([np.linspace(0, 50, 101), np.linspace(50, 100, 101)])[:, None]
    scaled = normalise(frames)
    assert scaled[0].max() == scaled[1].min()


def test_a_few_wild_pixels_do_not_change_the_intensities():
    frames = np.random.default_rng(0).uniform(100, 900, (10, 96, 96)).astype(np.float32)
    wild = frames.copy()
    wild[0, :4, :10] = 1e6
    assert np.abs(normalise(frames) - normalise(wild))[1:].max() < 0.01
    assert normalise(wild).min() == 0
    assert normalise(wild).max() == 1


def test_frames_without_contrast_are_black_not_nan():
    assert np.array_equal(normalise(np.full((3, 4, 5), 7.0, dtype=np.float32)), np.zeros((3, 4, 5)))
