"""A scan on the grid keeps its place, size and times."""

from dataclasses import replace

import numpy as np
import pytest

from cpgg_hf.cine import Cine
from cpgg_hf.errors import InputError
from cpgg_hf.preparation.grid.prepare import prepare_scan, to_display_orientation
from cpgg_hf.preparation.grid.resampling import normalise, resample_field

ORIENTATION = np.array([1.0, 0.0, 0.0, 0.0, 0.7660444, 0.6427876])


def series_of(frames, spacing=(1.8, 1.8), times=None, rr_ms=900.0, **changes) -> Cine:
    times = np.arange(len(frames)) * rr_ms / len(frames) if times is None else times
    series = Cine(
        pixels=np.asarray(frames, dtype=np.float32),
        scanner_units=True,
        frame_time_ms=float(np.median(np.diff(times))),
        spacing_mm=spacing,
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
    prepared = prepare_scan(series_of(heart.field))
    assert prepared.cine.pixels.shape == (50, 96, 96)
    assert prepared.cine.pixels.dtype == np.float32
    assert prepared.cine.frame_time_ms == pytest.approx(18)
    assert prepared.cine.pixels == pytest.approx(normalise(crop_of(heart, prepared)), abs=1e-4)


def test_the_affine_leads_back_to_the_acquired_pixel(heart):
    series = series_of(heart.field)
    prepared = prepare_scan(series)
    first = prepared.center - 47.5
    in_patient = series.position + 1.8 * (first[1] * ORIENTATION[:3] + first[0] * ORIENTATION[3:])
    assert prepared.cine.position == pytest.approx(in_patient)
    assert prepared.cine.affine[:3, 3] == pytest.approx(in_patient * [-1, -1, 1])
    assert np.linalg.norm(prepared.cine.affine[:3, :2], axis=0) == pytest.approx(1.8)


def test_another_spacing_shows_the_same_heart_at_the_same_place(heart):
    reference = prepare_scan(series_of(heart.field))
    fine = resample_field(heart.field[::2], np.array([1.8, 1.8]), 1.2)
    corner = np.array([-150.0, -90.0, 20.0])
    offsets = (np.array(heart.field.shape[1:]) - 1) / 2 * 1.8 - (np.array(fine.shape[1:]) - 1) / 2 * 1.2
    position = corner + offsets[1] * ORIENTATION[:3] + offsets[0] * ORIENTATION[3:]
    prepared = prepare_scan(series_of(fine, spacing=(1.2, 1.2), position=position))
    shift = (
        (prepared.cine.position - reference.cine.position) @ np.stack([ORIENTATION[3:], ORIENTATION[:3]], axis=1) / 1.8
    )
    assert np.abs(shift).max() <= 2  # the crop may start a pixel or two elsewhere
    rows, columns = np.round(shift).astype(int)
    moved = np.roll(prepared.cine.pixels, (rows, columns), axis=(1, 2))[:, 4:-4, 4:-4]
    assert np.corrcoef(moved.ravel(), reference.cine.pixels[:, 4:-4, 4:-4].ravel())[0, 1] > 0.99


def test_half_the_frames_give_nearly_the_same_cine(heart):
    whole = prepare_scan(series_of(heart.field))
    half = prepare_scan(series_of(heart.field[::2]))
    assert np.array_equal(whole.center, half.center)
    assert np.sqrt(np.mean((whole.cine.pixels - half.cine.pixels) ** 2)) < 0.02


def test_gain_and_offset_of_the_scanner_do_not_matter(heart):
    reference = prepare_scan(series_of(heart.field)).cine.pixels
    assert prepare_scan(series_of(7.5 * heart.field + 300)).cine.pixels == pytest.approx(reference, abs=1e-3)


def test_a_mirrored_series_becomes_upright_again_and_stays_in_place(heart):
    series = series_of(heart.field)
    height = heart.field.shape[1]
    mirrored = series_of(
        heart.field[:, ::-1],
        orientation=ORIENTATION * [1, 1, 1, -1, -1, -1],
        position=series.position + 1.8 * (height - 1) * ORIENTATION[3:],
    )
    prepared, again = prepare_scan(series), prepare_scan(to_display_orientation(mirrored))
    assert np.array_equal(prepared.cine.pixels, again.cine.pixels)
    assert again.cine.affine == pytest.approx(prepared.cine.affine)


def test_a_small_field_is_padded_with_black_with_a_warning(heart):
    first, last = heart.low - 2, heart.high + 3
    prepared = prepare_scan(series_of(heart.field[:, first[0] : last[0], first[1] : last[1]]))
    assert prepared.cine.pixels.shape == (50, 96, 96)
    assert "lies outside the acquired field" in prepared.cine.warnings[0]


@pytest.mark.parametrize(("spacing", "shape"), [(0.2, (40, 40)), (9.0, (100, 100)), (1.8, (200, 20))])
def test_a_field_that_is_no_hearts_is_refused_before_it_is_resampled(spacing, shape):
    frames = np.random.default_rng(0).uniform(0, 1, (8, *shape))
    with pytest.raises(InputError, match="mm large, expected 60 to 700 mm; check the pixel spacing"):
        prepare_scan(series_of(frames, spacing=(spacing, spacing)))


def test_frames_of_more_than_one_beat_are_refused(heart):
    with pytest.raises(InputError, match="more than one beat"):
        prepare_scan(series_of(heart.field[:20], times=np.arange(20) * 50.0, rr_ms=800))
