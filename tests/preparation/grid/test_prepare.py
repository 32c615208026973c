"""A series on the grid: true place, true size, true time, intensities that ignore outliers."""

from dataclasses import replace

import numpy as np
import pytest

from cpgg_hf.errors import InputError
from cpgg_hf.preparation.grid.prepare import (
    normalise,
    prepare_series,
    resample_beat,
    resample_field,
    to_display_orientation,
)
from cpgg_hf.scans.series import CineSeries

ORIENTATION = np.array([1.0, 0.0, 0.0, 0.0, 0.7660444, 0.6427876])


def series_of(frames, spacing=(1.8, 1.8), times=None, rr_ms=900.0, **changes) -> CineSeries:
    times = np.arange(len(frames)) * rr_ms / len(frames) if times is None else times
    series = CineSeries(
        frames=np.asarray(frames, dtype=np.float32),
        pixel_spacing_mm=np.array(spacing),
        times_ms=times,
        rr_ms=rr_ms,
        orientation=ORIENTATION,
        position=np.array([-150.0, -90.0, 20.0]),
        slice_thickness_mm=6.0,
        origin="scan",
        source="dicom",
    )
    return replace(series, **changes)


def crop_of(heart, prepared) -> np.ndarray:
    """The embedded field that the prepared cine says it shows."""
    first = np.round(prepared.center - 47.5).astype(int)
    return heart.field[:, first[0] : first[0] + 96, first[1] : first[1] + 96]


def test_on_its_own_grid_a_cine_is_only_cropped_and_scaled(heart):
    prepared = prepare_series(series_of(heart.field))
    assert prepared.cine.shape == (50, 96, 96)
    assert prepared.cine.dtype == np.float32
    assert prepared.frame_time_ms == pytest.approx(18)
    assert prepared.cine == pytest.approx(normalise(crop_of(heart, prepared)), abs=1e-4)


def test_the_affine_leads_back_to_the_acquired_pixel(heart):
    series = series_of(heart.field)
    prepared = prepare_series(series)
    first = prepared.center - 47.5
    in_patient = series.position + 1.8 * (first[1] * ORIENTATION[:3] + first[0] * ORIENTATION[3:])
    assert prepared.position == pytest.approx(in_patient)
    assert prepared.affine[:3, 3] == pytest.approx(in_patient * [-1, -1, 1])
    assert np.linalg.norm(prepared.affine[:3, :2], axis=0) == pytest.approx(1.8)


def test_another_spacing_shows_the_same_heart_at_the_same_place(heart):
    reference = prepare_series(series_of(heart.field))
    fine = resample_field(heart.field[::2], np.array([1.8, 1.8]), 1.2)
    corner = np.array([-150.0, -90.0, 20.0])
    offsets = (np.array(heart.field.shape[1:]) - 1) / 2 * 1.8 - (np.array(fine.shape[1:]) - 1) / 2 * 1.2
    position = corner + offsets[1] * ORIENTATION[:3] + offsets[0] * ORIENTATION[3:]
    prepared = prepare_series(series_of(fine, spacing=(1.2, 1.2), position=position))
    shift = (prepared.position - reference.position) @ np.stack([ORIENTATION[3:], ORIENTATION[:3]], axis=1) / 1.8
    assert np.abs(shift).max() <= 2  # the crop may start a pixel or two elsewhere
    rows, columns = np.round(shift).astype(int)
    moved = np.roll(prepared.cine, (rows, columns), axis=(1, 2))[:, 4:-4, 4:-4]
    assert np.corrcoef(moved.ravel(), reference.cine[:, 4:-4, 4:-4].ravel())[0, 1] > 0.99


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


def test_half_the_frames_give_nearly_the_same_cine(heart):
    whole = prepare_series(series_of(heart.field))
    half = prepare_series(series_of(heart.field[::2]))
    assert np.array_equal(whole.center, half.center)
    assert np.sqrt(np.mean((whole.cine - half.cine) ** 2)) < 0.02


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


def test_a_few_wild_pixels_do_not_change_the_intensities():
    frames = np.random.default_rng(0).uniform(100, 900, (10, 96, 96)).astype(np.float32)
    wild = frames.copy()
    wild[0, :4, :10] = 1e6
    assert np.abs(normalise(frames) - normalise(wild))[1:].max() < 0.01
    assert normalise(wild).min() == 0
    assert normalise(wild).max() == 1


def test_gain_and_offset_of_the_scanner_do_not_matter(heart):
    reference = prepare_series(series_of(heart.field)).cine
    assert prepare_series(series_of(7.5 * heart.field + 300)).cine == pytest.approx(reference, abs=1e-3)


def test_a_mirrored_series_becomes_upright_again_and_stays_in_place(heart):
    series = series_of(heart.field)
    height = heart.field.shape[1]
    mirrored = series_of(
        heart.field[:, ::-1],
        orientation=ORIENTATION * [1, 1, 1, -1, -1, -1],
        position=series.position + 1.8 * (height - 1) * ORIENTATION[3:],
    )
    prepared, again = prepare_series(series), prepare_series(to_display_orientation(mirrored))
    assert np.array_equal(prepared.cine, again.cine)
    assert again.affine == pytest.approx(prepared.affine)


def test_a_small_field_is_padded_with_black_and_it_is_said(heart):
    first, last = heart.low - 2, heart.high + 3
    prepared = prepare_series(series_of(heart.field[:, first[0] : last[0], first[1] : last[1]]))
    assert prepared.cine.shape == (50, 96, 96)
    assert "lies outside the acquired field" in prepared.warnings[0]


@pytest.mark.parametrize(("spacing", "shape"), [(0.2, (40, 40)), (9.0, (100, 100)), (1.8, (200, 20))])
def test_a_field_that_is_no_hearts_is_refused_before_it_is_resampled(spacing, shape):
    frames = np.random.default_rng(0).uniform(0, 1, (8, *shape))
    with pytest.raises(InputError, match="mm large, expected 60 to 700 mm; check the pixel spacing"):
        prepare_series(series_of(frames, spacing=(spacing, spacing)))


def test_frames_without_contrast_are_black_not_nan():
    assert np.array_equal(normalise(np.full((3, 4, 5), 7.0, dtype=np.float32)), np.zeros((3, 4, 5)))


def test_frames_of_more_than_one_beat_are_refused(heart):
    with pytest.raises(InputError, match="more than one beat"):
        prepare_series(series_of(heart.field[:20], times=np.arange(20) * 50.0, rr_ms=800))
