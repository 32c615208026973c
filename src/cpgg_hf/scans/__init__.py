"""DICOM, NIfTI and zip files read as `Cine`s in scanner units."""

import os
from pathlib import Path

from cpgg_hf.cine import Cine
from cpgg_hf.errors import InputError
from cpgg_hf.scans.dicom import read_dicom_folder
from cpgg_hf.scans.nifti import read_nifti


def read_scan(
    path: str | os.PathLike[str],
    rr_ms: float | None = None,
    *,
    middle_slice: bool = False,
    assumed_rr_ms: float | None = None,
) -> Cine:
    """Read one cine from a DICOM folder or a NIfTI file.

    Args:
        path: a folder with the DICOM files of one series, or a `.nii` or `.nii.gz` file.
        rr_ms: length of the heart beat, for files that do not state it.
        middle_slice: as in `read_nifti`.
        assumed_rr_ms: as in `read_nifti`.

    Raises:
        InputError: nothing there, or a file that cannot be used.
        ImportError: pydicom or nibabel is not installed.
    """
    path = Path(path)
    if path.is_dir():
        return read_dicom_folder(path, rr_ms)
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a DICOM folder, or a .nii or .nii.gz file.")
    return read_nifti(path, rr_ms, middle_slice=middle_slice, assumed_rr_ms=assumed_rr_ms)
