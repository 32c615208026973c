"""The intensities that models are trained on: a fixed scale that ignores outliers."""

import numpy as np
import pytest

from cpgg_hf.preparation.grid.intensity import normalise


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
