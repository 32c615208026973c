"""`read_scan` takes a DICOM folder or a NIfTI file, and knows which cines a scanner acquired."""

import numpy as np
import pytest
from dicom_files import write_dicom_series
from nifti_files import write_nifti

from cpgg_hf.errors import InputError
from cpgg_hf.scans import read_scan
from cpgg_hf.scans.nifti import PREPARED

ON_GRID = np.random.default_rng(0).random((50, 96, 96)).astype(np.float32)


def test_a_folder_is_dicom_and_a_file_is_nifti(tmp_path):
    scan = read_scan(write_dicom_series(tmp_path / "scan", 1000 * ON_GRID[:10])[0].parent, rr_ms=800)
    assert (scan.source, len(scan), scan.rr_ms, scan.scanner_units, scan.acquired) == ("dicom", 10, 900, True, True)
    scan = read_scan(write_nifti(tmp_path / "cine.nii", ON_GRID[:10], 0.0), rr_ms=800)
    assert (scan.source, len(scan), scan.rr_ms, scan.scanner_units, scan.acquired) == ("nifti", 10, 800, True, True)
    with pytest.raises(InputError, match=r"absent does not exist; give a DICOM folder, or a \.nii or \.nii\.gz file"):
        read_scan(tmp_path / "absent")


@pytest.mark.parametrize(
    ("pixels", "spacing_mm", "description", "acquired"),
    [
        (ON_GRID, 1.8, PREPARED, True),
        (ON_GRID, 1.8, "", False),
        (ON_GRID, 1.7, "", True),
        (ON_GRID[:49], 1.8, "", True),
        (2 * ON_GRID, 1.8, "", True),
    ],
    ids=["prepared", "generated", "another pixel size", "another number of frames", "scanner units"],
)
def test_a_cine_on_the_grid_was_generated_unless_it_is_marked_as_prepared(
    tmp_path, pixels, spacing_mm, description, acquired
):
    path = write_nifti(tmp_path / "cine.nii", pixels, 18.0, spacing_mm, description=description)
    assert read_scan(path).acquired is acquired
