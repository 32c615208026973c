"""Bring a scan onto the package's grid: 50 frames over the beat, 96 x 96 pixels of 1.8 mm around the heart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.errors import InputError
from cpgg_hf.grid import GRID_SIZE, NUM_FRAMES, SPACING_MM
from cpgg_hf.phantom import LABELS
from cpgg_hf.preparation.grid.image_view import four_chamber_doubts, mask_doubts, require_four_chambers
from cpgg_hf.preparation.grid.localisation import find_heart
from cpgg_hf.preparation.grid.resampling import crop, normalise, resample_beat, resample_field, resampled_grid

if TYPE_CHECKING:
    from cpgg_hf.measure import CineMeasurement
    from cpgg_hf.preparation.grid.heart_segmentation import SegmentedField
    from cpgg_hf.segmentation.segmenter import CineSegmenter

_FIELD_MM = (60.0, 700.0)  # smaller than the heart, larger than the bore of a scanner
_WARN_SHARE_OUTSIDE = 0.15
_NUM_TIMES = 10  # per beat suffice to locate the heart, and are five times as fast as all
_NOT_JUDGED = "without a segmenter or a mask it is not judged"


@dataclass(frozen=True)
class PreparedScan:
    """A scan on the package's grid.

    Attributes:
        cine: (50, 96, 96) float32 in [0, 1], with the plane of the crop.
        center: (2,) row and column of the crop's centre in acquired pixels.
        probabilities: (50, 7, 96, 96) float32 of the structures in `phantom.LABELS`: from a mask with one label map
            per frame, or from the segmenter if requested; otherwise None.
        measurement: measurement of the whole field's probabilities; None where there are none.
    """

    cine: Cine
    center: np.ndarray
    probabilities: np.ndarray | None = None
    measurement: CineMeasurement | None = None


def prepare_scan(
    scan: Cine,
    *,
    segmenter: CineSegmenter | None = None,
    mask: np.ndarray | None = None,
    view: str = "any",
    with_probabilities: bool = False,
) -> PreparedScan:
    """Resample a scan to the grid's pixels and frames, crop it around the heart, and normalise its intensities.

    Image axes stay as acquired; pixels beyond the acquired field are black.

    Args:
        scan: in scanner units.
        segmenter: a scan segmenter that locates the heart; by default the heart is located by its motion.
        mask: (1, H, W) or (T, H, W) labels on the acquired pixels, see `read_mask`; used instead of the segmenter.
        view: "4ch" refuses images that a segmenter sees other chambers in, and scans without a known plane unless
            the segmentation or the mask shows the four chambers; "any" accepts all.
        with_probabilities: whether to segment all 50 frames, for measurement, not only enough to locate the heart.

    Raises:
        InputError: a field too small or too large for a heart, more than one beat, no motion, or low segmentation
            confidence.
    """
    _check_field(scan)
    phases = _phases(scan)
    field = resample_field(scan.pixels, scan.spacing_mm, SPACING_MM)
    notes: tuple[str, ...] = ()
    by_image = view == "4ch" and scan.normal is None
    try:
        if mask is not None:
            require_four_chambers(mask_doubts(mask) if by_image else ())
            heart, probabilities = _locate_by_mask(scan, mask, phases)
        elif segmenter is not None:
            beat = resample_beat(normalise(field), phases, NUM_FRAMES if with_probabilities else _NUM_TIMES)
            found, notes = _segment(beat.clip(0, 1), field, phases, segmenter, view)
            require_four_chambers(four_chamber_doubts(found.probabilities) if by_image else ())
            heart, probabilities = found.crop_center(GRID_SIZE), found.probabilities if with_probabilities else None
        else:
            require_four_chambers((_NOT_JUDGED,) if by_image else ())
            heart, probabilities = find_heart(field, phases, SPACING_MM), None
    except InputError as error:
        raise InputError(f"{scan.origin}: {error}") from None
    first = np.round(heart - (GRID_SIZE - 1) / 2).astype(int)
    pixels = resample_beat(normalise(crop(field, first, field.min())), phases, NUM_FRAMES).clip(0, 1)
    _, ratio, offset = resampled_grid(scan.pixels.shape[1:], scan.spacing_mm, SPACING_MM)
    first_acquired = first * ratio + offset
    warnings = (*scan.warnings, *(f"{scan.origin}: {note}" for note in notes))
    inside = np.maximum(0, np.minimum(first + GRID_SIZE, field.shape[1:]) - np.maximum(first, 0))
    outside = 1 - np.prod(inside) / GRID_SIZE**2
    if outside > _WARN_SHARE_OUTSIDE:
        warnings += (f"{scan.origin}: {100 * outside:.0f}% of the crop lies outside the acquired field and is black.",)
    cine = replace(
        scan,
        pixels=pixels.astype(np.float32),
        scanner_units=False,
        spacing_mm=(SPACING_MM, SPACING_MM),
        frame_time_ms=scan.rr_ms / NUM_FRAMES,
        times_ms=np.arange(NUM_FRAMES) * scan.rr_ms / NUM_FRAMES,
        position=_position_of(scan, first_acquired),
        warnings=warnings,
    )
    return PreparedScan(
        cine=cine,
        center=first_acquired + (GRID_SIZE - 1) / 2 * ratio,
        probabilities=None if probabilities is None else _crop_probabilities(probabilities, first),
        measurement=None if probabilities is None else _measured(probabilities, cine),
    )


def measure_on_grid(cine: Cine, segmenter: CineSegmenter, view: str = "any") -> PreparedScan:
    """Segment and measure a cine that lies on the package's grid already.

    Args:
        cine: synthetic, or acquired and prepared.
        segmenter: a scan segmenter for an acquired cine, otherwise a cine segmenter.
        view: as `prepare_scan` takes it.

    Raises:
        InputError: as `prepare_scan`.
    """
    import torch

    notes: tuple[str, ...] = ()
    try:
        if cine.acquired:
            found, notes = _segment(cine.unit, cine.unit, np.arange(len(cine)) / len(cine), segmenter, view)
            probabilities = found.probabilities
        else:
            probabilities = segmenter.segment(torch.from_numpy(cine.unit.copy())).cpu().numpy()
        by_image = view == "4ch" and cine.normal is None
        require_four_chambers(four_chamber_doubts(probabilities) if by_image else ())
    except InputError as error:
        raise InputError(f"{cine.origin}: {error}") from None
    return PreparedScan(
        cine=replace(cine, warnings=(*cine.warnings, *(f"{cine.origin}: {note}" for note in notes))),
        center=np.full(2, (GRID_SIZE - 1) / 2),
        probabilities=probabilities,
        measurement=_measured(probabilities, cine),
    )


def to_display_orientation(scan: Cine) -> Cine:
    """Mirror a four-chamber scan as phantoms are drawn: the patient's left on the right, the back at the bottom.

    Scanners store oblique planes upside down or not depending on their tilt; the plane in the patient stays the same.
    """
    if scan.orientation is None or scan.position is None:
        return scan
    pixels, position = scan.pixels, scan.position
    along_row, along_column = scan.orientation[:3], scan.orientation[3:]
    if along_row[0] < 0:
        position = position + along_row * scan.spacing_mm[1] * (pixels.shape[2] - 1)
        along_row, pixels = -along_row, pixels[:, :, ::-1]
    if along_column[1] < 0:
        position = position + along_column * scan.spacing_mm[0] * (pixels.shape[1] - 1)
        along_column, pixels = -along_column, pixels[:, ::-1]
    orientation = np.concatenate([along_row, along_column])
    return replace(scan, pixels=np.ascontiguousarray(pixels), orientation=orientation, position=position)


def _check_field(scan: Cine) -> None:
    height_mm, width_mm = np.array(scan.pixels.shape[1:]) * scan.spacing_mm
    if not _FIELD_MM[0] <= min(height_mm, width_mm) <= max(height_mm, width_mm) <= _FIELD_MM[1]:
        raise InputError(
            f"{scan.origin}: the image is {height_mm:.0f} x {width_mm:.0f} mm large, expected {_FIELD_MM[0]:.0f} to "
            f"{_FIELD_MM[1]:.0f} mm; check the pixel spacing, or give images of the whole heart."
        )


def _phases(scan: Cine) -> np.ndarray:
    """(T,) times of the frames as shares of the beat, from 0."""
    phases = (scan.times_ms - scan.times_ms[0]) / scan.rr_ms
    if phases[-1] >= 1:
        raise InputError(
            f"{scan.origin}: the frames span {scan.times_ms[-1] - scan.times_ms[0]:.0f} ms, more than one beat "
            f"of {scan.rr_ms:.0f} ms; give the frames of one beat."
        )
    return phases


def _locate_by_mask(scan: Cine, mask: np.ndarray, phases: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The heart's centre (2,) in the resampled field, and (50, 7, H, W) probabilities if each frame has labels."""
    _, ratio, offset = resampled_grid(scan.pixels.shape[1:], scan.spacing_mm, SPACING_MM)
    marked = np.argwhere((mask > 0).any(axis=0))
    heart = ((marked.min(axis=0) + marked.max(axis=0)) / 2 - offset) / ratio
    if len(mask) != len(scan):
        return heart, None
    shares = [resample_field(mask == label, scan.spacing_mm, SPACING_MM) for label in LABELS.values()]
    return heart, resample_beat(np.stack(shares, axis=1), phases, NUM_FRAMES).clip(0, 1).astype(np.float32)


def _segment(
    beat: np.ndarray, frames: np.ndarray, phases: np.ndarray, segmenter: CineSegmenter, view: str
) -> tuple[SegmentedField, tuple[str, ...]]:
    """The segmentation of frames at even times of the beat in [0, 1], and warnings; see `require_heart`."""
    from cpgg_hf.preparation.grid.heart_segmentation import require_heart, segment_field

    found = segment_field(beat, SPACING_MM, segmenter)
    return found, require_heart(found, frames, phases, view)


def _measured(probabilities: np.ndarray, cine: Cine) -> CineMeasurement:
    import torch

    from cpgg_hf.measure import measure_labels

    return measure_labels(torch.from_numpy(probabilities), SPACING_MM, cine.frame_time_ms)


def _crop_probabilities(probabilities: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The (T, 7, 96, 96) crop of (T, 7, H, W); beyond the edges of the field everything is background."""
    channels = (crop(probabilities[:, label], first, float(name == "background")) for name, label in LABELS.items())
    return np.stack(list(channels), axis=1)


def _position_of(scan: Cine, pixel: np.ndarray) -> np.ndarray | None:
    """(3,) place in the patient of an acquired pixel (row, column); None if the plane is unknown."""
    if scan.orientation is None or scan.position is None:
        return None
    down_mm, right_mm = pixel * scan.spacing_mm
    return scan.position + right_mm * scan.orientation[:3] + down_mm * scan.orientation[3:]
