"""From an acquired series to a cine on the package's grid: 50 frames over the beat, 96 x 96 pixels of 1.8 mm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import interpolate, ndimage

from cpgg_hf.errors import InputError
from cpgg_hf.grid import GRID_SIZE, NUM_FRAMES, SPACING_MM
from cpgg_hf.phantom import LABELS
from cpgg_hf.preparation.grid.localisation import find_heart
from cpgg_hf.scans.nifti import affine_of_plane
from cpgg_hf.scans.series import CineSeries

if TYPE_CHECKING:
    from cpgg_hf.segmentation.segmenter import CineSegmenter

# The darkest per cent is black; the 99th percentile stands at 0.9, which leaves room for inflow and fat.
_PERCENTILES = (1.0, 99.0)
_BRIGHT_LEVEL = 0.9
_FIELD_MM = (60.0, 700.0)  # a heart is larger, no scanner's bore is


@dataclass(frozen=True)
class PreparedCine:
    """A cine ready for the models, and where it lies.

    Attributes:
        cine: (frames, size, size) float32 in [0, 1]; frame 0 is the first after the R wave.
        spacing_mm: pixel size.
        frame_time_ms: beat / frames.
        rr_ms: length of the beat.
        affine: (4, 4) NIfTI affine of the crop; None where the plane's place in the patient is unknown.
        orientation: (6,) as in `CineSeries`, or None.
        position: (3,) centre of the crop's first pixel, patient coordinates in mm, or None.
        center: (2,) row and column of the crop's middle in the acquired image's pixels.
        probabilities: (frames, 7, size, size) float32 of the structures of `phantom.LABELS`: of a mask that has one
            label map a frame, or the segmenter's where they were asked for; else None.
        warnings: what the user should know.
    """

    cine: np.ndarray
    spacing_mm: float
    frame_time_ms: float
    rr_ms: float
    affine: np.ndarray | None
    orientation: np.ndarray | None
    position: np.ndarray | None
    center: np.ndarray
    probabilities: np.ndarray | None = None
    warnings: tuple[str, ...] = ()


def prepare_series(
    series: CineSeries,
    spacing_mm: float = SPACING_MM,
    size: int = GRID_SIZE,
    num_frames: int = NUM_FRAMES,
    *,
    segmenter: CineSegmenter | None = None,
    mask: np.ndarray | None = None,
    view: str = "any",
    with_probabilities: bool = False,
) -> PreparedCine:
    """Bring a series onto the grid: same pixel size, cropped around the heart, resampled over the beat, normalised.

    Image axes stay as acquired. What the acquired field does not cover is black.

    Args:
        series: one slice over one beat.
        spacing_mm: pixel size of the result.
        size: rows and columns of the result.
        num_frames: frames of the result.
        segmenter: a field segmenter, which finds the heart; without one it is found by its motion.
        mask: (1, H, W) or (T, H, W) labels on the acquired pixels, see `read_mask`: it takes the segmenter's place.
        view: with a segmenter, "4ch" refuses images that show other chambers.
        with_probabilities: whether the segmenter looks at every frame of the whole field, to be measured, not only at
            as many as it takes to find the heart.

    Raises:
        InputError: a field too small or too large for a heart; nothing in the image beats; the segmenter is
            unsure.
    """
    _check_field(series)
    field = resample_field(series.frames, series.pixel_spacing_mm, spacing_mm)
    phases = (series.times_ms - series.times_ms[0]) / series.rr_ms
    if phases[-1] >= 1:
        raise InputError(
            f"{series.origin}: the frames span {series.times_ms[-1] - series.times_ms[0]:.0f} ms, more than one beat "
            f"of {series.rr_ms:.0f} ms; give the frames of one beat."
        )
    try:
        heart, labels = _find(
            series, field, phases, spacing_mm, size, num_frames, segmenter, mask, view, with_probabilities
        )
    except InputError as error:
        raise InputError(f"{series.origin}: {error}") from None
    first = np.round(heart - (size - 1) / 2).astype(int)
    crop = _crop(field, first, size, field.min())
    cine = resample_beat(normalise(crop), phases, num_frames).clip(0, 1)
    notes = list(series.warnings)
    outside = 1 - np.prod(_overlap(first, size, np.array(field.shape[1:]))) / size**2
    if outside > 0.15:
        notes.append(
            f"{series.origin}: {100 * outside:.0f}% of the crop lies outside the acquired field and is black."
        )

    _, ratio, offset = _grid(series.frames.shape[1:], series.pixel_spacing_mm, spacing_mm)
    first_in_acquired = first * ratio + offset
    position = affine = None
    if series.orientation is not None and series.position is not None:
        along_row, along_column = series.orientation[:3], series.orientation[3:]
        offsets_mm = first_in_acquired * series.pixel_spacing_mm
        position = series.position + offsets_mm[1] * along_row + offsets_mm[0] * along_column
        affine = affine_of_plane((spacing_mm, spacing_mm), series.orientation, position, series.slice_thickness_mm)
    return PreparedCine(
        cine=cine.astype(np.float32),
        spacing_mm=spacing_mm,
        frame_time_ms=series.rr_ms / num_frames,
        rr_ms=series.rr_ms,
        affine=affine,
        orientation=series.orientation,
        position=position,
        center=first_in_acquired + (size - 1) / 2 * ratio,
        probabilities=None if labels is None else _crop_labels(labels, first, size),
        warnings=tuple(notes),
    )


def _find(
    series: CineSeries,
    field: np.ndarray,
    phases: np.ndarray,
    spacing_mm: float,
    size: int,
    num_frames: int,
    segmenter: CineSegmenter | None,
    mask: np.ndarray | None,
    view: str,
    with_probabilities: bool,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The crop's middle (2,) in the field, and the probabilities (num_frames, 7, H, W) there, if any are to be had."""
    if mask is not None:
        _, ratio, offset = _grid(series.frames.shape[1:], series.pixel_spacing_mm, spacing_mm)
        heart = (_middle(mask) - offset) / ratio
        if len(mask) != len(series.frames):
            return heart, None
        shares = [resample_field(mask == label, series.pixel_spacing_mm, spacing_mm) for label in LABELS.values()]
        return heart, resample_beat(np.stack(shares, axis=1), phases, num_frames).clip(0, 1).astype(np.float32)
    if segmenter is None:
        return find_heart(field, phases, spacing_mm), None

    from cpgg_hf.preparation.grid.heart_segmentation import NUM_TIMES, require_heart, segment_field

    beat = resample_beat(normalise(field), phases, num_frames if with_probabilities else NUM_TIMES).clip(0, 1)
    found = segment_field(beat, spacing_mm, segmenter)
    require_heart(found, field, phases, view)
    return found.crop_center(size), found.probabilities if with_probabilities else None


def _check_field(series: CineSeries) -> None:
    height_mm, width_mm = np.array(series.frames.shape[1:]) * series.pixel_spacing_mm
    if not _FIELD_MM[0] <= min(height_mm, width_mm) <= max(height_mm, width_mm) <= _FIELD_MM[1]:
        raise InputError(
            f"{series.origin}: the image is {height_mm:.0f} x {width_mm:.0f} mm large, expected {_FIELD_MM[0]:.0f} to "
            f"{_FIELD_MM[1]:.0f} mm; check the pixel spacing, or give images of the whole heart."
        )


def to_display_orientation(series: CineSeries) -> CineSeries:
    """A four-chamber series mirrored as phantoms are drawn: the patient's left on the right, the back at the bottom.

    Scanners store oblique planes upside down or not depending on their tilt; the plane's place stays true.
    """
    if series.orientation is None or series.position is None:
        return series
    frames, position = series.frames, series.position
    along_row, along_column = series.orientation[:3], series.orientation[3:]
    if along_row[0] < 0:
        position = position + along_row * series.pixel_spacing_mm[1] * (frames.shape[2] - 1)
        along_row, frames = -along_row, frames[:, :, ::-1]
    if along_column[1] < 0:
        position = position + along_column * series.pixel_spacing_mm[0] * (frames.shape[1] - 1)
        along_column, frames = -along_column, frames[:, ::-1]
    return replace(
        series,
        frames=np.ascontiguousarray(frames),
        orientation=np.concatenate([along_row, along_column]),
        position=position,
    )


def _grid(
    shape: tuple[int, ...], pixel_spacing_mm: np.ndarray, spacing_mm: float
) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """Shape of the field on the new grid, and the acquired pixel `index * ratio + offset` of each new one."""
    ratio = spacing_mm / np.asarray(pixel_spacing_mm)
    resampled = np.maximum(1, np.round(np.array(shape) / ratio)).astype(int)
    offset = (np.array(shape) - 1) / 2 - ratio * (resampled - 1) / 2
    return (int(resampled[0]), int(resampled[1])), ratio, offset


def resample_field(frames: np.ndarray, pixel_spacing_mm: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Frames (T, H, W) on square pixels of another size, (T, H', W'); the field's middle stays where it is."""
    shape, ratio, offset = _grid(frames.shape[1:], pixel_spacing_mm, spacing_mm)
    # Where pixels get larger, what the coarser grid cannot hold is filtered out first.
    blur = 0.42 * np.sqrt(np.maximum(ratio**2 - 1, 0))
    resampled = np.empty((len(frames), *shape), dtype=np.float32)
    for index, frame in enumerate(frames):
        smooth = ndimage.gaussian_filter(frame.astype(np.float32), blur, mode="nearest")
        resampled[index] = ndimage.affine_transform(
            smooth, ratio, offset=offset, output_shape=shape, order=3, mode="nearest"
        ).clip(float(frame.min()), float(frame.max()))
    return resampled


def resample_beat(frames: np.ndarray, phases: np.ndarray, num_frames: int) -> np.ndarray:
    """Frames (T, ...) taken at rising phases in [0, 1) to `num_frames` even phases, by a periodic cubic spline."""
    around = np.concatenate([frames, frames[:1]])
    spline = interpolate.CubicSpline(np.append(phases, phases[0] + 1), around, axis=0, bc_type="periodic")
    return spline(np.arange(num_frames) / num_frames)


def normalise(frames: np.ndarray) -> np.ndarray:
    """Intensities to [0, 1] by percentiles of all frames together: single bright or dark pixels do not decide."""
    low, high = np.percentile(frames, _PERCENTILES)
    if high <= low:
        low, high = float(frames.min()), float(frames.max())
    if high <= low:
        return np.zeros(frames.shape, dtype=np.float32)
    return ((frames - low) / (high - low) * _BRIGHT_LEVEL).clip(0, 1).astype(np.float32)


def _overlap(first: np.ndarray, size: int, field: np.ndarray) -> np.ndarray:
    """Rows and columns of the crop that lie inside the field."""
    return np.maximum(0, np.minimum(first + size, field) - np.maximum(first, 0))


def _middle(mask: np.ndarray) -> np.ndarray:
    """(2,) row and column of the middle of what a mask ever marks."""
    places = np.argwhere((mask > 0).any(axis=0))
    return (places.min(axis=0) + places.max(axis=0)) / 2


def _crop(field: np.ndarray, first: np.ndarray, size: int, outside: float) -> np.ndarray:
    """(T, size, size) from a corner on; the value `outside` beyond the field's edges."""
    before = np.maximum(0, -first)
    after = np.maximum(0, first + size - field.shape[1:])
    padding = ((0, 0), (before[0], after[0]), (before[1], after[1]))
    padded = np.pad(field, padding, constant_values=outside)
    top, left = first + before
    return padded[:, top : top + size, left : left + size]


def _crop_labels(shares: np.ndarray, first: np.ndarray, size: int) -> np.ndarray:
    """(T, 7, size, size) from a corner on; background beyond the field's edges."""
    labels = (_crop(shares[:, label], first, size, float(name == "background")) for name, label in LABELS.items())
    return np.stack(list(labels), axis=1)
