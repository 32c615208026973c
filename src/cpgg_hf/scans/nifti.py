"""Read cines from NIfTI, with the plane's position in the patient and the frame time in the header."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.errors import InputError, brief
from cpgg_hf.optional import import_optional
from cpgg_hf.plane import plane_of_affine
from cpgg_hf.scans.checks import (
    MAX_RR_MS,
    MIN_RR_MS,
    check_num_frames,
    check_rr_ms,
    check_size,
    lies_on_grid,
    make_scan,
    plausible_thickness_mm,
)

PREPARED = "acquired; brought onto the grid by cpgg_hf"
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
    The cine counts as acquired unless it lies on the package's grid without the mark `PREPARED` of `cpgg prepare`:
    then `cpgg generate` wrote it.

    Args:
        path: a `.nii` or `.nii.gz` file.
        rr_ms: length of the heart beat, for files that do not state the frame time.
        middle_slice: whether to read the middle slice of a stack (column, row, slice, time) instead of refusing it.
        assumed_rr_ms: RR interval (ms), used with a warning if the header has no usable frame time; by default such a
            file is refused.

    Raises:
        InputError: not a NIfTI file, damaged, other axes than those above, no usable frame time.
        ImportError: nibabel is not installed.
    """
    check_rr_ms(rr_ms)
    check_rr_ms(assumed_rr_ms)
    path = Path(path)
    image, repairs = open_nifti(path)
    shape = image.shape
    _check_axes(shape, path, middle_slice)
    slice_index = shape[2] // 2 if len(shape) == 4 else 0
    check_size(shape[1], shape[0], shape[-1], str(path))
    check_num_frames(shape[-1], str(path))
    values = stored_values(image, path, (slice(None), slice(None), slice_index) if len(shape) == 4 else ())
    pixels = np.ascontiguousarray(values.reshape(shape[0], shape[1], -1).transpose(2, 1, 0))
    notes: tuple[str, ...] = ()
    if repairs:
        notes = (f"{path}: the header was repaired as it was read ({'; '.join(repairs)}).",)
    if len(shape) == 3:
        notes += (f"{path}: three axes {shape}; the third was read as time.",)
    elif shape[2] > 1:
        notes += (f"{path}: a stack of {shape[2]} slices; slice {slice_index + 1}, the middle one, was taken.",)
    frame_time_ms = None if rr_ms is None else rr_ms / len(pixels)
    if frame_time_ms is None:
        frame_time_ms = _stated_frame_time_ms(image, len(pixels))
    if frame_time_ms is None and assumed_rr_ms is not None:
        frame_time_ms = assumed_rr_ms / len(pixels)
        notes += (f"{path}: no usable frame time; an RR interval of {assumed_rr_ms:.0f} ms was assumed.",)
    if frame_time_ms is None:
        raise _no_frame_time(image, len(pixels), path)
    zooms = np.array(image.header.get_zooms()[:3], dtype=np.float64)
    orientation, position, spacing_mm = None, None, zooms[[1, 0]]
    if _is_placed(image):
        affine = np.array(image.affine, dtype=np.float64)
        spacing_mm = np.linalg.norm(affine[:3, 1::-1], axis=0)
        affine[:, 3] += slice_index * affine[:, 2]
        orientation, position = plane_of_affine(affine)
    else:
        notes += (f"{path}: the header does not state the image's position in the patient.",)
    prepared = image.header["descrip"].item() == PREPARED.encode()
    return make_scan(
        pixels,
        spacing_mm,
        np.arange(len(pixels)) * frame_time_ms,
        len(pixels) * frame_time_ms,
        orientation=orientation,
        position=position,
        slice_thickness_mm=plausible_thickness_mm(float(zooms[2])) if len(shape) == 4 else None,
        origin=str(path),
        source="nifti",
        acquired=prepared or not lies_on_grid(pixels, spacing_mm),
        warnings=notes,
    )


def open_nifti(path: Path) -> tuple[Any, list[str]]:
    """Open a NIfTI image of grey values; returns it with nibabel's notes on its repairs of the header.

    Raises:
        InputError: no such file, not a NIfTI file, damaged, or colours.
    """
    nibabel = import_optional("nibabel", "imaging")
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {found}; give a .nii or .nii.gz file.")
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


def _is_placed(image: Any) -> bool:
    """Whether the header states the plane's position in the patient.

    Axes exactly along the patient's are written by software that does not know them: no heart is imaged so.
    """
    if not (image.header["qform_code"] or image.header["sform_code"]) or not np.isfinite(image.affine).all():
        return False
    axes = image.affine[:3, :2]
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


def _stated_time(image: Any) -> tuple[float, str]:
    """The header's frame time and its unit."""
    zooms = image.header.get_zooms()
    try:
        unit = str(image.header.get_xyzt_units()[1])
    except KeyError:  # a code that is not in the standard
        unit = "of unknown unit"
    return float(zooms[3]) if len(zooms) > 3 else 0.0, unit


def _no_frame_time(image: Any, num_frames: int, path: Path) -> InputError:
    stated, unit = _stated_time(image)
    return InputError(
        f"{path}: a frame time of {stated:g} {unit} for {num_frames} frames implies no RR interval of "
        f"{MIN_RR_MS:.0f} to {MAX_RR_MS:.0f} ms; give the RR interval in ms (rr_ms, --rr-ms)."
    )


def _stated_frame_time_ms(image: Any, num_frames: int) -> float | None:
    """The header's frame time; None if it implies no plausible heart beat."""
    stated, unit = _stated_time(image)
    # Files without a unit are common: then take whichever of ms and s implies a plausible heart beat.
    factors = [_TIME_UNIT_IN_MS[unit]] if unit in _TIME_UNIT_IN_MS else [1.0, 1000.0]
    plausible = (stated * factor for factor in factors if MIN_RR_MS <= stated * factor * num_frames <= MAX_RR_MS)
    return next(plausible, None)
