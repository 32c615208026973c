"""Read cines from NIfTI, with the plane's position in the patient and the frame time in the header."""

import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
from scipy.ndimage import binary_fill_holes

from cpgg_hf.cine import Cine
from cpgg_hf.errors import InputError, brief
from cpgg_hf.optional import import_optional
from cpgg_hf.plane import plane_of_affine
from cpgg_hf.scans.checks import (
    MAX_RR_MS,
    MIN_RR_MS,
    check_rr_ms,
    check_size,
    lies_on_grid,
    make_scan,
    one_beat,
    plausible_thickness_mm,
)
from cpgg_hf.scans.files import is_nifti_name

PREPARED = "acquired; brought onto the grid by cpgg_hf"
_LONGEST_FRAME_MS = 200.0  # of a cine; longer times have another unit
_SIZE_TOLERANCE = 0.01
_TIME_UNIT_IN_MS = {"sec": 1000.0, "msec": 1.0, "usec": 0.001}


@np.errstate(all="ignore")  # values of the header that overflow are refused by `make_scan`
def read_nifti(
    path: str | os.PathLike[str],
    rr_ms: float | None = None,
    *,
    middle_slice: bool = False,
    assumed_rr_ms: float | None = None,
) -> Cine:
    """Read one cine from a NIfTI file with axes (column, row, 1, time) or (column, row, time).

    The axes are read as stored: the first to the right, the second downwards, as in files converted without flips.
    Files whose single slice lies along another axis, as software that turns images to the patient's axes writes them,
    are turned to the usual display: patient's left on the right, back or feet at the bottom.
    The cine counts as acquired unless it lies on the package's grid without the mark `PREPARED` of `cpgg prepare`:
    then `cpgg generate` wrote it.

    Args:
        path: a `.nii` or `.nii.gz` file.
        rr_ms: length of the heart beat, for files that do not state the frame time, or hold several beats.
        middle_slice: whether to read the middle slice of a stack (column, row, slice, time) instead of refusing it.
        assumed_rr_ms: RR interval (ms), used with a warning if the header has no usable frame time; by default such a
            file is refused.

    Raises:
        InputError: not a NIfTI file, damaged, other axes than those above, no usable frame time, pixel sizes that
            contradict each other.
        ImportError: nibabel is not installed.
    """
    check_rr_ms(rr_ms)
    check_rr_ms(assumed_rr_ms)
    path = Path(path)
    image, repairs = open_nifti(path)
    axes, shape = (0, 1, 2), image.shape
    if len(shape) == 4:
        axes = slice_last(shape)
        shape = (*(shape[axis] for axis in axes), shape[3])
    _check_axes(shape, path, middle_slice)
    slice_index = shape[2] // 2 if len(shape) == 4 else 0
    check_size(shape[1], shape[0], shape[-1], str(path))
    part = (slice(None), slice(None), slice_index) if len(shape) == 4 and shape[2] > 1 else ()
    values = stored_values(image, path, part)
    notes: tuple[str, ...] = ()
    if repairs:
        notes = (f"{path}: the header was repaired as it was read ({'; '.join(repairs)}).",)
    if len(shape) == 3:
        notes += (f"{path}: three axes {shape}; the third was read as time.",)
    elif shape[2] > 1:
        notes += (f"{path}: a stack of {shape[2]} slices; slice {slice_index + 1}, the middle one, was taken.",)
    values = values.squeeze(axes[2]) if len(shape) == 4 and not part else values
    times_ms, stated_ms, timing_notes = _times_ms(image, shape[-1], rr_ms, assumed_rr_ms, path)
    return _cine_of(
        image, values, axes, slice_index, path, times_ms, stated_ms, (*notes, *timing_notes), rr_ms is not None
    )


@np.errstate(all="ignore")  # as above
def read_nifti_frames(paths: Sequence[Path], origin: str, rr_ms: float | None = None) -> Cine:
    """Read one cine from NIfTI files of one frame each, in the order of the numbers in their names.

    Args:
        paths: files with axes (column, row) or (column, row, 1).
        origin: their folder, for messages.
        rr_ms: length of the heart beat, which such files do not state.

    Raises:
        InputError: a file of other axes, files that differ in size or place, or no `rr_ms`.
    """
    check_rr_ms(rr_ms)
    paths = sorted(paths, key=lambda path: [int(digits) for digits in re.findall(r"\d+", path.name)])
    images = [open_nifti(path)[0] for path in paths]
    first = images[0]
    for path, image in zip(paths, images, strict=True):
        if len(image.shape) not in (2, 3, 4) or sorted((*image.shape, 1, 1))[-3] != 1:
            raise InputError(
                f"{origin} holds {len(paths)} NIfTI files, and {path.name} has axes {image.shape}, expected one frame "
                "of one slice in each (columns, rows, 1); give the file of one cine."
            )
        if image.shape != first.shape or not np.allclose(image.affine, first.affine, atol=1e-3, equal_nan=True):
            raise InputError(
                f"{origin}: {paths[0].name} and {path.name} differ in size or place; give the frames of one cine."
            )
    if rr_ms is None:
        raise InputError(
            f"{origin}: {len(paths)} NIfTI files of one frame each state no frame time; give the RR interval in ms "
            "(rr_ms, --rr-ms)."
        )
    axes = slice_last((*first.shape, 1)[:3])
    check_size(first.shape[axes[1]], first.shape[axes[0]], len(paths), origin)
    frames = [stored_values(image, path).squeeze() for path, image in zip(paths, images, strict=True)]
    note = f"{origin}: {len(paths)} NIfTI files were read as the frames of one beat, by the numbers in their names."
    times_ms = np.arange(len(paths)) * rr_ms / len(paths)
    return _cine_of(first, np.stack(frames, axis=-1), axes, 0, Path(origin), times_ms, rr_ms, (note,), True)


def slice_last(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The first three axes of an image in the order (column, row, slice): an only slice may lie along any of them."""
    if shape[2] == 1 or 1 not in shape[:2]:
        return (0, 1, 2)
    return (1, 2, 0) if shape[0] == 1 else (0, 2, 1)


def _cine_of(
    image: Any,
    values: np.ndarray,
    axes: tuple[int, int, int],
    slice_index: int,
    path: Path,
    times_ms: np.ndarray,
    stated_ms: float | None,
    notes: tuple[str, ...],
    is_given: bool,
) -> Cine:
    """The cine of values (column, row, time) from an image with its axes in the order `axes`."""
    times_ms, beat_ms, beat_notes = one_beat(times_ms, stated_ms, str(path), is_given=is_given)
    values = values[..., : len(times_ms)]
    zooms = np.array([*image.header.get_zooms(), 0.0][:3], dtype=np.float64)[list(axes)]
    affine = np.array(image.affine, dtype=np.float64)[:, [*axes, 3]]
    _check_pixel_size(image, affine, zooms, path)
    orientation, position, spacing_mm = None, None, zooms[[1, 0]]
    if _is_placed(image, affine):
        spacing_mm = np.linalg.norm(affine[:3, 1::-1], axis=0)
        affine[:, 3] += slice_index * affine[:, 2]
        if axes != (0, 1, 2):
            values = _as_displayed(values, affine)
        orientation, position = plane_of_affine(affine)
    else:
        notes += (
            f"{path}: the header does not state the image's position in the patient, so the view cannot be checked.",
        )
    pixels, nan_notes = _without_nan_borders(np.ascontiguousarray(values.transpose(2, 1, 0)), path)
    prepared = image.header["descrip"].item() == PREPARED.encode()
    return make_scan(
        pixels,
        spacing_mm,
        times_ms,
        beat_ms,
        orientation=orientation,
        position=position,
        slice_thickness_mm=plausible_thickness_mm(float(zooms[2])) if len(image.shape) == 4 else None,
        origin=str(path),
        source="nifti",
        acquired=prepared or not lies_on_grid(pixels, spacing_mm),
        warnings=(*notes, *nan_notes, *beat_notes),
    )


def _check_pixel_size(image: Any, affine: np.ndarray, zooms: np.ndarray, path: Path) -> None:
    """By the standard pixdim holds the size of a voxel, and so do the columns of the sform."""
    lengths = np.linalg.norm(affine[:3, :2], axis=0)
    if image.header["sform_code"] and not np.allclose(lengths, zooms[:2], rtol=_SIZE_TOLERANCE, equal_nan=True):
        listed = [" x ".join(f"{length:.4g}" for length in pair) for pair in (lengths, zooms[:2])]
        raise InputError(
            f"{path}: the sform states pixels of {listed[0]} mm, pixdim and the qform {listed[1]} mm; correct the one "
            "that is wrong (nibabel: set_sform, set_zooms)."
        )


def _as_displayed(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Values (column, row, time) and their affine (in place) turned to patient's left right, back or feet down."""
    for axis in (0, 1):
        direction = affine[:3, axis]
        if direction[np.abs(direction).argmax()] > 0:  # in RAS
            values = np.flip(values, axis)
            affine[:3, 3] += direction * (values.shape[axis] - 1)
            affine[:3, axis] = -direction
    return values


def _without_nan_borders(pixels: np.ndarray, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """NaN around the image, as software fills what lies outside a scan, replaced by the lowest value."""
    missing = np.isnan(pixels)
    if not missing.any() or missing.all():
        return pixels, ()
    if not all(np.array_equal(binary_fill_holes(~frame), ~frame) for frame in missing):
        return pixels, ()  # `make_scan` refuses NaN inside the image
    note = f"{path}: {100 * missing.mean():.0f}% of the pixels, at the borders, are NaN and were read as black."
    return np.where(missing, np.nanmin(pixels), pixels), (note,)


def open_nifti(path: Path) -> tuple[Any, list[str]]:
    """Open a NIfTI image of grey values; returns it with nibabel's notes on its repairs of the header.

    Raises:
        InputError: no such file, not a NIfTI file, damaged, or colours.
    """
    nibabel = import_optional("nibabel", "imaging")
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {found}; give a .nii or .nii.gz file.")
    if not is_nifti_name(path):
        kind = "a zip; unpack it, and" if is_zipfile(path) else "not a .nii or .nii.gz file;"
        raise InputError(f"{path} is {kind} give a DICOM folder, or a .nii or .nii.gz file.")
    repairs: list[str] = []
    try:
        with _collected(repairs):
            image = nibabel.load(path)
            kind = image.get_data_dtype()
    except Exception as error:  # nibabel and the decompressors raise many kinds on damaged files
        raise _unreadable(path, error) from None
    if not isinstance(image, nibabel.Nifti1Pair):  # Nifti2 derives from it
        raise InputError(f"{path} is {type(image).__name__}, not NIfTI; convert it first.")
    if kind.fields is not None or np.iscomplexobj(np.empty(0, kind)):
        raise InputError(f"{path} holds colours or complex numbers; give grey values.")
    return image, repairs


def stored_values(image: Any, path: Path, part: tuple[Any, ...] = ()) -> np.ndarray:
    """The values of an image from `open_nifti`, or of a part of it, as float32.

    Raises:
        InputError: truncated or damaged.
    """
    try:
        with np.errstate(all="ignore"):  # the callers check for values that are not finite
            return np.asarray(image.dataobj[part] if part else image.dataobj, np.float32)
    except Exception as error:  # as above
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"cannot read {path}: not a NIfTI file, or truncated ({brief(error)}); copy it again.")


@contextmanager
def _collected(repairs: list[str]) -> Iterator[None]:
    """Collect nibabel's notes on repairs of a header, which it would print otherwise."""
    logger = import_optional("nibabel.imageglobals", "imaging").logger

    def collect(record: logging.LogRecord) -> bool:
        repairs.append(record.getMessage())
        return False

    logger.addFilter(collect)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        repairs += [str(warning.message) for warning in caught]
    finally:
        logger.removeFilter(collect)


def _is_placed(image: Any, affine: np.ndarray) -> bool:
    """Whether the header states the plane's position in the patient.

    Axes exactly along the patient's are written by software that does not know them: no heart is imaged so.
    """
    if not (image.header["qform_code"] or image.header["sform_code"]) or not np.isfinite(affine).all():
        return False
    axes = affine[:3, :2]
    lengths = np.linalg.norm(axes, axis=0)
    return bool((lengths > 0).all() and (np.abs(axes).max(axis=0) < 0.99999 * lengths).any())


def _check_axes(shape: tuple[int, ...], path: Path, middle_slice: bool) -> None:
    if len(shape) == 4 and shape[2] > 1 and not middle_slice:
        raise InputError(
            f"{path} holds {shape[2]} slices of {shape[3]} frames (a stack, such as short-axis slices), expected one "
            "slice (columns, rows, 1, time); save one slice in its own file."
        )
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise InputError(
            f"{path} has axes {shape}, expected (columns, rows, 1, time) or (columns, rows, time); "
            "save one slice over time."
        )
    if min(shape[:2]) < 16:
        raise InputError(f"{path} has frames of {shape[0]} x {shape[1]} pixels, expected at least 16 x 16.")


def _times_ms(
    image: Any, num_frames: int, rr_ms: float | None, assumed_rr_ms: float | None, path: Path
) -> tuple[np.ndarray, float | None, tuple[str, ...]]:
    """The times of the frames, the length of the beat if it is given, and warnings."""
    zooms = image.header.get_zooms()
    stated = float(zooms[3]) if len(zooms) > 3 else 0.0
    try:
        unit = str(image.header.get_xyzt_units()[1])
    except KeyError:  # a code that is not in the standard
        unit = "of unknown unit"
    # Files without a unit are common: then take whichever of ms and s implies a plausible heart beat.
    for factor in [_TIME_UNIT_IN_MS[unit]] if unit in _TIME_UNIT_IN_MS else [1.0, 1000.0]:
        longest = MAX_RR_MS if rr_ms is None else num_frames * _LONGEST_FRAME_MS
        if MIN_RR_MS <= stated * factor * num_frames <= longest:
            return np.arange(num_frames) * stated * factor, rr_ms, ()
    if rr_ms is not None:
        return np.arange(num_frames) * rr_ms / num_frames, rr_ms, ()
    if assumed_rr_ms is None:
        raise InputError(
            f"{path}: a frame time of {stated:g} {unit} for {num_frames} frames implies no RR interval of "
            f"{MIN_RR_MS:.0f} to {MAX_RR_MS:.0f} ms; give the RR interval in ms (rr_ms, --rr-ms)."
        )
    note = f"{path}: no usable frame time; an RR interval of {assumed_rr_ms:.0f} ms was assumed."
    return np.arange(num_frames) * assumed_rr_ms / num_frames, assumed_rr_ms, (note,)
