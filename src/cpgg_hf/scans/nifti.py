"""Cines from and to NIfTI, with the plane's true place in the patient and the frame time in the header."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf.errors import InputError, brief
from cpgg_hf.files.staging import staged_file
from cpgg_hf.optional import import_optional
from cpgg_hf.scans.series import (
    MAX_RR_MS,
    MIN_RR_MS,
    CineSeries,
    check_rr_ms,
    check_size,
    stated_thickness_mm,
)

# A textbook four-chamber plane (see `cpgg_hf.preparation.grid.view`) with the patient's left on the right and the back
# at the bottom, as phantoms are drawn: the direction of a row, then of a column, in DICOM patient coordinates.
TYPICAL_4CH_ORIENTATION = (0.99781, -0.04245, 0.05064, 0.0, 0.76634, 0.64244)
DEFAULT_SLICE_THICKNESS_MM = 6.0
PREPARED = "acquired; brought onto the grid by cpgg_hf"
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_TIME_UNIT_IN_MS = {"sec": 1000.0, "msec": 1.0, "usec": 0.001}


def affine_of_plane(
    spacing_mm: tuple[float, float],
    orientation: np.ndarray | None = None,
    position: np.ndarray | None = None,
    slice_thickness_mm: float | None = None,
    shape: tuple[int, int] = (96, 96),
) -> np.ndarray:
    """The (4, 4) NIfTI affine of a plane: (column, row, 0) to mm, x to the right, y to the front, z to the head.

    Args:
        spacing_mm: distance between rows, distance between columns.
        orientation: (6,) as in DICOM; by default a textbook four-chamber plane.
        position: (3,) centre of the first pixel as in DICOM; by default the image's centre lies at the origin.
        slice_thickness_mm: by default 6 mm.
        shape: rows and columns, used only to centre the image.
    """
    directions = np.asarray(TYPICAL_4CH_ORIENTATION if orientation is None else orientation, dtype=np.float64)
    along_row = directions[:3] / np.linalg.norm(directions[:3])
    along_column = directions[3:] - (directions[3:] @ along_row) * along_row
    along_column /= np.linalg.norm(along_column)
    axes = np.stack(
        [
            along_row * spacing_mm[1],
            along_column * spacing_mm[0],
            np.cross(along_row, along_column) * (slice_thickness_mm or DEFAULT_SLICE_THICKNESS_MM),
        ],
        axis=1,
    )
    if position is None:
        position = -axes @ np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2, 0.0])
    affine = np.eye(4)
    affine[:3, :3] = _LPS_TO_RAS @ axes
    affine[:3, 3] = _LPS_TO_RAS @ np.asarray(position)
    return affine


def plane_of_affine(affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `affine_of_plane`: orientation (6,) and position (3,) as in DICOM."""
    axes = _LPS_TO_RAS @ np.asarray(affine, dtype=np.float64)[:3, :2]
    axes /= np.linalg.norm(axes, axis=0)
    return axes.T.ravel(), _LPS_TO_RAS @ affine[:3, 3]


def write_nifti(
    path: str | os.PathLike[str],
    cine: np.ndarray,
    frame_time_ms: float,
    spacing_mm: float = 1.8,
    affine: np.ndarray | None = None,
    description: str = "",
) -> Path:
    """Write a cine as NIfTI (columns, rows, 1, time), in mm and ms; the file appears whole or not at all.

    Args:
        path: ends in `.nii.gz` or `.nii`.
        cine: (T, H, W), uint8, or float in [0, 1]; the type is kept (float as float32).
        frame_time_ms: time from one frame to the next.
        spacing_mm: pixel size, used where no affine is given.
        affine: (4, 4) from `affine_of_plane`; by default a textbook four-chamber plane around the origin.
        description: for the header, up to 79 characters, such as `PREPARED`.
    """
    nibabel = import_optional("nibabel", "imaging")
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path.name} must end in .nii.gz or .nii.")
    cine = np.asarray(cine)
    if cine.ndim != 3:
        raise ValueError(f"a cine has three axes (T, H, W), given {cine.shape}; pass one cine at a time.")
    if cine.dtype != np.uint8:
        cine = cine.astype(np.float32)
    if affine is None:
        affine = affine_of_plane((spacing_mm, spacing_mm), shape=cine.shape[1:])
    image = nibabel.Nifti1Image(np.ascontiguousarray(cine.transpose(2, 1, 0)[:, :, None, :]), affine)
    image.header.set_xyzt_units("mm", "msec")
    image.header.set_zooms((*image.header.get_zooms()[:3], frame_time_ms))
    image.header["descrip"] = description
    image.header["cal_max"] = 255 if cine.dtype == np.uint8 else 1
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    with staged_file(path) as partial:
        nibabel.save(image, partial)
    return path


@np.errstate(all="ignore")  # what overflows in the header is no number, which the series tells of
def read_nifti(
    path: str | os.PathLike[str],
    rr_ms: float | None = None,
    *,
    middle_slice: bool = False,
    assumed_rr_ms: float | None = None,
) -> CineSeries:
    """Read one cine from a NIfTI file of axes (column, row, 1, time), or (column, row, time).

    The axes are taken as stored: the first runs along the image's columns to the right, the second down its rows, as
    in files converted without flips.

    Args:
        path: a `.nii` or `.nii.gz` file.
        rr_ms: length of the heart beat, for files that do not state the frame time.
        middle_slice: whether to take the middle slice of a stack (column, row, slice, time) instead of refusing it.
        assumed_rr_ms: what to take, with a warning, as the length of the beat where the file states no usable frame
            time; by default such a file is refused.

    Raises:
        InputError: no NIfTI, damaged, other axes than those above, no usable frame time.
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
    values = stored_values(image, path, (slice(None), slice(None), slice_index) if len(shape) == 4 else ())
    frames = np.ascontiguousarray(values.reshape(shape[0], shape[1], -1).transpose(2, 1, 0))
    notes: tuple[str, ...] = ()
    if repairs:
        notes = (f"{path}: the header was repaired as it was read ({'; '.join(repairs)}).",)
    if len(shape) == 3:
        notes += (f"{path}: three axes {shape}; the third was read as time.",)
    elif shape[2] > 1:
        notes += (f"{path}: a stack of {shape[2]} slices; slice {slice_index + 1}, the middle one, was taken.",)
    beat_ms = rr_ms
    if beat_ms is None and assumed_rr_ms is not None and _stated_frame_time_ms(image, len(frames)) is None:
        beat_ms = assumed_rr_ms
        notes += (f"{path}: no usable frame time is stated; the beat was taken to last {beat_ms:.0f} ms.",)
    frame_time_ms = _frame_time_ms(image, len(frames), path) if beat_ms is None else beat_ms / len(frames)
    affine = np.asarray(image.affine, dtype=np.float64)
    axes = _LPS_TO_RAS @ affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    placed = _is_placed(image, axes)
    if not placed:
        notes += (f"{path}: the header does not place the image in the patient, so the view cannot be judged.",)
    zooms = np.array(image.header.get_zooms()[:3], dtype=np.float64)
    return CineSeries(
        frames=frames,
        pixel_spacing_mm=np.array([lengths[1], lengths[0]]) if placed else zooms[[1, 0]],
        times_ms=np.arange(len(frames)) * frame_time_ms,
        rr_ms=len(frames) * frame_time_ms,
        orientation=np.concatenate([axes[:, 0] / lengths[0], axes[:, 1] / lengths[1]]) if placed else None,
        position=_LPS_TO_RAS @ (affine @ [0, 0, slice_index, 1])[:3] if placed else None,
        slice_thickness_mm=stated_thickness_mm(float(zooms[2])) if len(shape) == 4 else None,
        origin=str(path),
        source="nifti",
        prepared=image.header["descrip"].item() == PREPARED.encode(),
        warnings=notes,
    )


def open_nifti(path: Path) -> tuple[Any, list[str]]:
    """A NIfTI image of grey values whose header was read, and what nibabel says that it repaired there.

    Raises:
        InputError: no such file, no NIfTI, damaged, or colours.
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
        raise InputError(f"{path} is {type(image).__name__}, no NIfTI; convert it first.")
    if kind.fields is not None or np.iscomplexobj(np.empty(0, kind)):
        raise InputError(f"{path} holds colours or complex numbers; give grey values.")
    return image, repairs


def stored_values(image: Any, path: Path, part: tuple[Any, ...] = ()) -> np.ndarray:
    """The values of an image from `open_nifti`, or of a part of it, float32.

    Raises:
        InputError: cut off or damaged.
    """
    try:
        with np.errstate(all="ignore"):  # what overflows is no number, which whoever asks for it tells of
            return np.asarray(image.dataobj[part] if part else image.dataobj, np.float32)
    except Exception as error:  # as above
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is no readable NIfTI file, or cut off ({brief(error)}); copy it again.")


@contextmanager
def _collected(repairs: list[str]) -> Iterator[None]:
    """Collects what nibabel says that it repairs in a header; otherwise it would print that."""
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


def _is_placed(image: Any, axes: np.ndarray) -> bool:
    """Whether the header says how the plane lies in the patient.

    Axes exactly along the patient's are what software writes that does not know: no heart is planned so.
    """
    if not (image.header["qform_code"] or image.header["sform_code"]) or not np.isfinite(image.affine).all():
        return False
    lengths = np.linalg.norm(axes[:, :2], axis=0)
    return bool((lengths > 0).all() and (np.abs(axes[:, :2]).max(axis=0) < 0.99999 * lengths).any())


def _check_axes(shape: tuple[int, ...], path: Path, middle_slice: bool) -> None:
    if len(shape) == 4 and shape[2] > 1 and not middle_slice:
        raise InputError(
            f"{path} holds {shape[2]} slices of {shape[3]} frames (a stack, as of short-axis slices), expected one "
            "slice (columns, rows, 1, time); save one slice in its own file."
        )
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise InputError(
            f"{path} has axes {shape}, expected (columns, rows, 1, time) or (columns, rows, time); "
            "save one slice over time."
        )
    if min(shape[:2]) < 16:
        raise InputError(f"{path} has frames of {shape[0]} x {shape[1]} pixels, expected at least 16 x 16.")


def _frame_time_ms(image: Any, num_frames: int, path: Path) -> float:
    frame_time_ms = _stated_frame_time_ms(image, num_frames)
    if frame_time_ms is None:
        zooms = image.header.get_zooms()
        stated = f"{float(zooms[3]) if len(zooms) > 3 else 0.0:g} {_time_unit(image)}"
        raise InputError(
            f"{path}: a frame time of {stated} for {num_frames} frames makes no heart beat of {MIN_RR_MS:.0f} to "
            f"{MAX_RR_MS:.0f} ms; give the RR interval in ms (rr_ms, --rr-ms)."
        )
    return frame_time_ms


def _time_unit(image: Any) -> str:
    try:
        return str(image.header.get_xyzt_units()[1])
    except KeyError:  # a code that the standard does not know
        return "of unknown unit"


def _stated_frame_time_ms(image: Any, num_frames: int) -> float | None:
    """The header's frame time; None where it makes no heart beat."""
    zooms = image.header.get_zooms()
    stated = float(zooms[3]) if len(zooms) > 3 else 0.0
    unit = _time_unit(image)
    # Files without a unit are common: then it is whichever of s and ms makes a heart beat.
    factors = [_TIME_UNIT_IN_MS[unit]] if unit in _TIME_UNIT_IN_MS else [1.0, 1000.0]
    beats = (factor for factor in factors if MIN_RR_MS <= stated * factor * num_frames <= MAX_RR_MS)
    factor = next(beats, None)
    return None if factor is None else stated * factor
