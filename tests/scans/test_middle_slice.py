"""Stacks of slices: the middle one is taken, at its own place in the patient."""

import nibabel
import numpy as np
import pytest
from dicom_files import SHORT_AXIS, write_dicom_series

from cpgg_hf.errors import InputError
from cpgg_hf.plane import affine_of_plane
from cpgg_hf.scans.dicom import read_middle_slice
from cpgg_hf.scans.nifti import read_nifti

NORMAL = np.cross(SHORT_AXIS[:3], SHORT_AXIS[3:])
FIRST = np.array([-100.0, -50.0, 70.0])


@pytest.fixture
def stack() -> np.ndarray:
    """5 slices of 10 frames."""
    return np.random.default_rng(0).integers(0, 1000, (5, 10, 20, 30)).astype(np.float32)


def save_nifti(path, stack, zooms=(1.5, 1.5, 8.0, 0.09), units="sec"):
    affine = affine_of_plane((1.5, 1.5), np.array(SHORT_AXIS), FIRST, 8.0)
    image = nibabel.Nifti1Image(stack.transpose(3, 2, 0, 1), affine)
    image.header.set_xyzt_units("mm", units)
    image.header.set_zooms(zooms)
    image.set_sform(affine, code=1)
    nibabel.save(image, path)
    return path


def test_the_middle_of_a_nifti_stack(tmp_path, stack):
    path = save_nifti(tmp_path / "stack.nii.gz", stack)
    with pytest.raises(InputError, match="holds 5 slices of 10 frames"):
        read_nifti(path)
    series = read_nifti(path, middle_slice=True)
    assert np.array_equal(series.pixels, stack[2])
    assert series.position == pytest.approx(FIRST + 2 * 8 * NORMAL, abs=1e-4)
    assert series.slice_thickness_mm == pytest.approx(8)
    assert series.rr_ms == pytest.approx(900)
    assert "slice 3, the middle one" in series.warnings[0]


def test_a_beat_is_assumed_only_where_none_is_stated(tmp_path, stack):
    stated = read_nifti(save_nifti(tmp_path / "a.nii", stack), middle_slice=True, assumed_rr_ms=700)
    assert stated.rr_ms == pytest.approx(900)
    path = save_nifti(tmp_path / "b.nii", stack, (1.5, 1.5, 8.0, 1.0))
    with pytest.raises(InputError, match="implies no RR interval"):
        read_nifti(path, middle_slice=True)
    assumed = read_nifti(path, middle_slice=True, assumed_rr_ms=700)
    assert assumed.rr_ms == pytest.approx(700)
    assert "an RR interval of 700 ms was assumed" in assumed.warnings[1]


@pytest.mark.parametrize("separate", [False, True], ids=["one folder", "a folder a slice"])
def test_the_middle_of_a_dicom_stack(tmp_path, stack, separate):
    folders = []
    for number in (3, 0, 4, 2, 1):
        folders.append(tmp_path / (f"sax_{number}" if separate else "all"))
        position = tuple(FIRST + 8 * number * NORMAL)
        write_dicom_series(
            folders[-1],
            stack[number],
            orientation=SHORT_AXIS,
            position=position,
            series_uid=f"1.2.{number if separate else 1}",
            prefix=f"slice{number}",
        )
    series = read_middle_slice(sorted(set(folders)))
    assert np.array_equal(series.pixels, stack[2])
    assert series.position == pytest.approx(FIRST + 16 * NORMAL)
    assert "a stack of 5 slices" in series.warnings[0]
    assert not any("/tmp/tmp" in text for text in (series.origin, *series.warnings))


def test_a_slice_that_was_taken_twice_is_read_once(tmp_path, stack):
    for again in (1, 2):
        write_dicom_series(tmp_path / f"sax_{again}", stack[again], orientation=SHORT_AXIS, series_uid=f"1.2.{again}")
    assert np.array_equal(read_middle_slice([tmp_path]).pixels, stack[2])


def test_a_folder_without_places_says_so(tmp_path, stack):
    write_dicom_series(tmp_path, stack[0], change=lambda index, dataset: delattr(dataset, "ImagePositionPatient"))
    with pytest.raises(InputError, match="no DICOM image has a position in the patient"):
        read_middle_slice([tmp_path])
