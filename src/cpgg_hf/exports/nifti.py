"""A cine as NIfTI, with the affine of its plane and the frame time in the header."""

import os
from pathlib import Path

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.exports.checks import checked
from cpgg_hf.files.staging import staged_file
from cpgg_hf.optional import import_optional
from cpgg_hf.scans.nifti import GENERATED, PREPARED

SUFFIX = ".nii.gz"


def write_nifti(path: str | os.PathLike[str], cine: Cine) -> Path:
    """Write a cine with axes (columns, rows, 1, time) in mm and ms; the file appears complete or not at all.

    The header's description is `PREPARED` for acquired cines on the package's grid, and names this package for
    generated cines.

    Args:
        path: ends in `.nii.gz` or `.nii`.
        cine: uint8 stays uint8, float becomes float32. An unknown plane becomes a textbook four-chamber plane.

    Raises:
        ValueError: `path` has another ending, or what `checked` refuses, also after conversion to float32.
        ImportError: nibabel is not installed.
    """
    nibabel = import_optional("nibabel", "imaging")
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path.name} must end in .nii.gz or .nii.")
    if cine.pixels.dtype != np.uint8:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
            cine = cine.with_pixels(cine.pixels.astype(np.float32))
    cine = checked(cine)
    pixels = cine.pixels
    image = nibabel.Nifti1Image(np.ascontiguousarray(pixels.transpose(2, 1, 0)[:, :, None, :]), cine.affine)
    image.header.set_xyzt_units("mm", "msec")
    image.header.set_zooms((*image.header.get_zooms()[:3], cine.frame_time_ms))
    image.header["descrip"] = _description(cine)
    if not cine.scanner_units:
        image.header["cal_max"] = 255 if pixels.dtype == np.uint8 else 1
    image.set_sform(cine.affine, code="scanner")
    image.set_qform(cine.affine, code="scanner")
    with staged_file(path) as partial:
        nibabel.save(image, partial)
    return path


def _description(cine: Cine) -> str:
    if cine.acquired:
        return "" if cine.scanner_units else PREPARED
    return GENERATED if cine.source == "cpgg" else ""
