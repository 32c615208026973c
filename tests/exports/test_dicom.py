"""Synthetic cines as DICOM: valid by dciodvfy, marked synthetic, and the same cine to every reader."""

import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_checks import dicom_faults

from cpgg_hf.errors import OutputError
from cpgg_hf.exports.dicom import write_dicom_series
from cpgg_hf.plane import affine_of_plane, plane_of_affine
from cpgg_hf.scans.dicom import read_dicom_folder
from cpgg_hf.scans.nifti import read_nifti, write_nifti

# A short-axis plane of unit vectors.
ORIENTATION = np.array([*np.array([1.0, 1.0, 0.0]) / 2**0.5, *np.array([-1.0, 1.0, -2.0]) / 6**0.5])
POSITION = (-100.123456789, -50.5, 70.25)
FRAME_TIME = 17.123456789


@pytest.fixture
def cine() -> np.ndarray:
    return np.random.default_rng(0).random((50, 20, 24))


@pytest.fixture
def folder(tmp_path, cine):
    return write_dicom_series(
        tmp_path / "series", cine, FRAME_TIME, 1.25, orientation=ORIENTATION, position=POSITION, slice_thickness_mm=8
    )


def stored(cine) -> np.ndarray:
    return np.round(cine * 4095)


@pytest.mark.parametrize("kind", ["default", "placed", "uint8", "uint16"])
def test_every_frame_is_a_valid_mr_image(tmp_path, cine, kind):
    place = {"orientation": ORIENTATION, "position": POSITION} if kind == "placed" else {}
    if kind in ("uint8", "uint16"):
        cine = (cine * np.iinfo(kind).max).astype(kind)
    folder = write_dicom_series(tmp_path / "series", cine[:9], 1000 / 9, 1 / 3 + 1, seed=3, **place)
    for path in sorted(folder.iterdir())[::4]:
        assert dicom_faults(path) == []


def test_the_check_of_validity_can_fail(folder):
    path = folder / "frame_0001.dcm"
    dataset = pydicom.dcmread(path)
    del dataset.ScanningSequence
    dataset.save_as(path)
    assert any("ScanningSequence" in fault for fault in dicom_faults(path))
    dataset = pydicom.dcmread(folder / "frame_0002.dcm")
    with pytest.warns(UserWarning, match="Invalid value for VR UI"):
        dataset.StudyInstanceUID = "1.2.0003"
    dataset.save_as(path)
    assert any("UI" in fault for fault in dicom_faults(path))


def test_every_file_says_that_it_is_synthetic_and_names_no_patient(folder):
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        assert dataset.SyntheticData == "YES"
        assert list(dataset.ImageType[:2]) == ["DERIVED", "SECONDARY"]
        assert dataset.PatientID == "SYNTHETIC"
        assert dataset.PatientIdentityRemoved == "YES"
        assert dataset.BurnedInAnnotation == "NO"
        assert dataset.ContentQualification == "RESEARCH"
        for text in (dataset.ImageComments, dataset.DerivationDescription, dataset.SeriesDescription):
            assert "synthetic" in text.lower()
        personal = ("PatientBirthDate", "PatientSex", "StudyDate", "AccessionNumber", "ReferringPhysicianName")
        assert not any(dataset[keyword].value for keyword in personal)


def test_our_reader_reads_what_was_written(folder, cine):
    series = read_dicom_folder(folder)
    assert np.array_equal(series.pixels, stored(cine))
    assert series.spacing_mm == (1.25, 1.25)
    assert series.times_ms == pytest.approx(np.arange(50) * FRAME_TIME, abs=1e-9)
    assert series.rr_ms == pytest.approx(50 * FRAME_TIME)
    assert series.orientation == pytest.approx(ORIENTATION, abs=1e-6)
    assert series.position == pytest.approx(POSITION, abs=1e-9)
    assert series.slice_thickness_mm == 8
    assert series.warnings == ()


def test_a_viewers_library_reads_the_same(folder, cine):
    (identifier,) = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    paths = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), identifier)
    assert len(paths) == 50
    frames, times = {}, {}
    for path in paths:
        image = SimpleITK.ReadImage(path)
        number = int(image.GetMetaData("0020|0013"))
        frames[number], times[number] = SimpleITK.GetArrayFromImage(image)[0], float(image.GetMetaData("0018|1060"))
        assert image.GetSpacing()[:2] == pytest.approx((1.25, 1.25))
        assert float(image.GetMetaData("0018|0050")) == 8
        assert image.GetOrigin() == pytest.approx(POSITION)
        directions = np.array(image.GetDirection()).reshape(3, 3)
        assert directions[:, :2].T.ravel() == pytest.approx(ORIENTATION, abs=1e-6)
    assert np.array_equal(np.stack([frames[number] for number in range(1, 51)]), stored(cine))
    assert [times[number] for number in range(1, 51)] == pytest.approx(np.arange(50) * FRAME_TIME)


def test_dicom_and_nifti_of_a_cine_lie_in_the_same_place(tmp_path, cine):
    dicom = read_dicom_folder(write_dicom_series(tmp_path / "dicom", cine, 20.0))
    nifti = read_nifti(write_nifti(tmp_path / "cine.nii.gz", cine, 20.0))
    assert dicom.position == pytest.approx(nifti.position, abs=1e-4)
    assert dicom.orientation == pytest.approx(nifti.orientation, abs=1e-5)
    assert dicom.spacing_mm == pytest.approx(nifti.spacing_mm)
    assert dicom.slice_thickness_mm == pytest.approx(nifti.slice_thickness_mm)


def test_nifti_shows_a_viewers_library_the_same_place_and_time(tmp_path, cine):
    affine = affine_of_plane((1.25, 1.25), ORIENTATION, POSITION, 8)
    image = SimpleITK.ReadImage(
        str(write_nifti(tmp_path / "cine.nii.gz", cine.astype(np.float32), 20.0, affine=affine))
    )
    assert image.GetSpacing()[:3] == pytest.approx((1.25, 1.25, 8))
    assert image.GetSpacing()[3] == pytest.approx(0.02)  # ITK counts in seconds
    assert image.GetOrigin()[:3] == pytest.approx(POSITION, abs=1e-4)
    directions = np.array(image.GetDirection()).reshape(4, 4)[:3, :2]
    assert directions.T.ravel() == pytest.approx(ORIENTATION, abs=1e-5)
    assert np.array_equal(SimpleITK.GetArrayFromImage(image)[:, 0], cine.astype(np.float32))


def test_a_plane_survives_its_affine():
    orientation, position = plane_of_affine(affine_of_plane((1.25, 1.5), ORIENTATION, POSITION))
    assert orientation == pytest.approx(ORIENTATION, abs=1e-6)
    assert position == pytest.approx(POSITION)


def test_a_seed_gives_the_same_bytes_and_another_cine_other_identifiers(tmp_path, cine):
    def written(name, frames, seed):
        folder = write_dicom_series(tmp_path / name, frames[:8], 100.0, seed=seed)
        return [path.read_bytes() for path in sorted(folder.iterdir())]

    assert written("a", cine, 5) == written("b", cine, 5)
    written("c", cine, 6)
    written("d", cine[:, ::-1], 5)
    written("e", cine, None)
    written("f", cine, None)
    identifiers = [
        (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID, dataset.SOPInstanceUID)
        for dataset in (pydicom.dcmread(tmp_path / name / "frame_0001.dcm") for name in "acdef")
    ]
    assert len({uid for uids in identifiers for uid in uids}) == 20


def test_whole_numbers_are_kept_as_they_are(tmp_path):
    eight = np.random.default_rng(1).integers(0, 256, (8, 16, 16), dtype=np.uint8)
    assert np.array_equal(read_dicom_folder(write_dicom_series(tmp_path / "a", eight, 100.0)).pixels, eight)
    sixteen = eight.astype(np.uint16) * 257
    assert np.array_equal(read_dicom_folder(write_dicom_series(tmp_path / "b", sixteen, 100.0)).pixels, sixteen)


@pytest.mark.parametrize(
    ("cine", "settings", "message"),
    [
        (np.full((8, 4, 4), 1.5), {}, r"float in \[0, 1\], given float64 from 1.5"),
        (np.full((8, 4, 4), np.nan), {}, r"float in \[0, 1\], given float64 from nan"),
        (np.zeros((8, 4, 4), int), {}, "given int64"),
        (np.zeros((1, 8, 4, 4)), {}, "three axes"),
        (np.zeros((8, 4, 4)), {"frame_time_ms": 0.0}, "frame_time_ms must be a positive number, given 0"),
        (np.zeros((8, 4, 4)), {"spacing_mm": -1.0}, "spacing_mm must be a positive number, given -1"),
    ],
)
def test_what_is_no_cine_is_refused_and_nothing_is_written(tmp_path, cine, settings, message):
    with pytest.raises(ValueError, match=message):
        write_dicom_series(tmp_path / "out", cine, **{"frame_time_ms": 20.0, **settings})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_left_alone(folder, cine):
    with pytest.raises(OutputError, match="exists and is not empty"):
        write_dicom_series(folder, cine, 20.0)
