"""`read_scan` takes a DICOM folder, a NIfTI file or a folder of them, and knows which cines a scanner acquired."""

import zipfile

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


def test_a_folder_of_nifti_files_is_read(tmp_path):
    write_nifti(tmp_path / "cine.nii.gz", ON_GRID[:10], 80.0)
    (tmp_path / "cine.json").write_text("{}")
    assert np.array_equal(read_scan(tmp_path).pixels, ON_GRID[:10])
    write_nifti(tmp_path / "other.nii.gz", ON_GRID[:10], 80.0)
    with pytest.raises(InputError, match=r"holds 2 NIfTI files, .* give the file of one cine"):
        read_scan(tmp_path)
    (tmp_path / "frames").mkdir()
    for index in range(10):
        write_nifti(tmp_path / f"frames/{index}.nii", ON_GRID[index : index + 1], 0.0)
    assert np.array_equal(read_scan(tmp_path / "frames", rr_ms=800).pixels, ON_GRID[:10])


def test_a_linked_series_is_read_once(tmp_path):
    write_dicom_series(tmp_path / "elsewhere/series", 1000 * ON_GRID[:10])
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan/linked").symlink_to(tmp_path / "elsewhere/series")
    (tmp_path / "scan/again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/circle").symlink_to(tmp_path / "scan")
    assert np.array_equal(read_scan(tmp_path / "scan").pixels, (1000 * ON_GRID[:10]).astype(np.uint16))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cine.gif", b"GIF89a" + bytes(500), r"cine\.gif is not a \.nii or \.nii\.gz file; give a DICOM folder, or a"),
        ("cine", b"anything", r"cine is not a \.nii or \.nii\.gz file; give a DICOM folder, or a"),
        ("cine.nii", b"anything", r"cannot read .*cine\.nii: not a NIfTI file, or truncated"),
        ("cine.zip", None, r"cine\.zip is a zip; unpack it, and give a DICOM folder, or a \.nii or \.nii\.gz file"),
        ("cine.nii.gz.zip", None, r"cine\.nii\.gz\.zip is a zip; unpack it"),
    ],
)
def test_other_files_say_what_is_wanted(tmp_path, name, content, message):
    if content is None:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("cine.dcm", b"x")
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_scan(tmp_path / name)


def test_one_frame_of_a_series_says_what_is_wanted(tmp_path):
    path = write_dicom_series(tmp_path, 1000 * ON_GRID[:10])[0]
    with pytest.raises(
        InputError, match=r"\.dcm holds 1 frame .*a cine needs at least 8; give the .*DICOM folder, or a"
    ):
        read_scan(path)


def test_a_series_of_nifti_is_refused(tmp_path):
    path = write_nifti(tmp_path / "cine.nii", ON_GRID[:10], 80.0)
    with pytest.raises(InputError, match=r"is not DICOM, so it has no series; leave the series out"):
        read_scan(path, series="1")
