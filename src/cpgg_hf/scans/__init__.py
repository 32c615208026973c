"""DICOM, NIfTI and zip files read as `Cine`s in scanner units."""

import os
from pathlib import Path

from cpgg_hf.cine import Cine
from cpgg_hf.errors import InputError
from cpgg_hf.scans.dicom import read_dicom_files
from cpgg_hf.scans.files import files_below, is_dicom, is_nifti_name
from cpgg_hf.scans.nifti import read_nifti, read_nifti_frames


def read_scan(
    path: str | os.PathLike[str],
    rr_ms: float | None = None,
    *,
    series: str | None = None,
    middle_slice: bool = False,
    assumed_rr_ms: float | None = None,
) -> Cine:
    """Read one cine from a DICOM folder, an Enhanced MR file, a NIfTI file, or a folder of NIfTI frames.

    Args:
        path: a folder with the DICOM files of one series, or with a NIfTI file for each frame; an Enhanced MR file; or
            a `.nii` or `.nii.gz` file.
        rr_ms: length of the heart beat, for files that do not state it, or hold several beats.
        series: which of several cines in DICOM files, as the error that lists them calls it.
        middle_slice: as in `read_nifti`.
        assumed_rr_ms: as in `read_nifti`.

    Raises:
        InputError: nothing there, or a file that cannot be used.
        ImportError: pydicom or nibabel is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; give a DICOM folder, or a .nii or .nii.gz file.")
    files = files_below(path) if path.is_dir() else [path]
    nifti = [one for one in files if is_nifti_name(one)]
    if any(is_dicom(one) for one in files) or (path.is_dir() and not nifti):
        return read_dicom_files(((str(one), one) for one in files), str(path), rr_ms, series=series)
    if series is not None:
        raise InputError(f"{path} is not DICOM, so it has no series; leave the series out (series, --series).")
    if len(nifti) > 1:
        return read_nifti_frames(nifti, str(path), rr_ms or assumed_rr_ms)
    return read_nifti(nifti[0] if nifti else path, rr_ms, middle_slice=middle_slice, assumed_rr_ms=assumed_rr_ms)
