"""Synthetic cines as DICOM: valid by dciodvfy, marked synthetic, and the same cine to every reader."""

import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_checks import dicom_faults

from cpgg_hf.cine import Cine
from cpgg_hf.errors import OutputError
from cpgg_hf.exports.dicom import write_dicom
from cpgg_hf.exports.nifti import write_nifti
from cpgg_hf.scans.dicom import read_dicom_folder
from cpgg_hf.scans.nifti import read_nifti

# A short-axis plane of unit vectors.
ORIENTATION = np.array([*np.array([1.0, 1.0, 0.0]) / 2**0.5, *np.array([-1.0, 1.0, -2.0]) / 6**0.5])
POSITION = (-100.123456789, -50.5, 70.25)
FRAME_TIME = 17.123456789


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).random((50, 20, 24))


@pytest.fixture
def cine(pixels) -> Cine:
    place = {"orientation": ORIENTATION, "position": POSITION, "slice_thickness_mm": 8}
    return Cine(pixels=pixels, frame_time_ms=FRAME_TIME, spacing_mm=1.25, **place)


@pytest.fixture
def folder(tmp_path, cine):
    return write_dicom(tmp_path / "series", cine)


def stored(pixels) -> np.ndarray:
    return np.round(pixels * 4095)


@pytest.mark.parametrize("kind", ["default", "placed", "uint8", "uint16"])
def test_every_frame_is_a_valid_mr_image(tmp_path, pixels, kind):
    settings = {"orientation": ORIENTATION, "position": POSITION} if kind == "placed" else {}
    if kind in ("uint8", "uint16"):
        pixels = (pixels * np.iinfo(kind).max).astype(kind)
        settings["scanner_units"] = kind == "uint16"
    cine = Cine(pixels=pixels[:9], frame_time_ms=1000 / 9, spacing_mm=1 / 3 + 1, seed=3, **settings)
    folder = write_dicom(tmp_path / "series", cine)
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
        (equipment,) = dataset.ContributingEquipmentSequence
        (purpose,) = equipment.PurposeOfReferenceCodeSequence
        assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109100", "DCM")  # PS3.16 CID 7005
        assert purpose.CodeMeaning == "Synthesizing Equipment"
        assert equipment.Manufacturer == "cpgg_hf"
        for text in (dataset.ImageComments, dataset.DerivationDescription, dataset.SeriesDescription):
            assert "synthetic" in text.lower()
        personal = ("PatientBirthDate", "PatientSex", "StudyDate", "AccessionNumber", "ReferringPhysicianName")
        assert not any(dataset[keyword].value for keyword in personal)


def test_our_reader_reads_what_was_written(folder, pixels):
    series = read_dicom_folder(folder)
    assert np.array_equal(series.pixels, stored(pixels))
    assert not series.acquired
    assert series.spacing_mm == (1.25, 1.25)
    assert series.times_ms == pytest.approx(np.arange(50) * FRAME_TIME, abs=1e-9)
    assert series.rr_ms == pytest.approx(50 * FRAME_TIME)
    assert series.orientation == pytest.approx(ORIENTATION, abs=1e-6)
    assert series.position == pytest.approx(POSITION, abs=1e-9)
    assert series.slice_thickness_mm == 8
    assert series.warnings == ()


def test_a_viewers_library_reads_the_same(folder, pixels):
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
    assert np.array_equal(np.stack([frames[number] for number in range(1, 51)]), stored(pixels))
    assert [times[number] for number in range(1, 51)] == pytest.approx(np.arange(50) * FRAME_TIME)


@pytest.mark.parametrize("placed", [True, False])
def test_dicom_and_nifti_of_a_cine_lie_in_the_same_place(tmp_path, cine, placed):
    cine = cine if placed else Cine(pixels=cine.pixels, frame_time_ms=20.0)
    dicom = read_dicom_folder(write_dicom(tmp_path / "dicom", cine))
    nifti = read_nifti(write_nifti(tmp_path / "cine.nii.gz", cine))
    assert dicom.position == pytest.approx(nifti.position, abs=1e-4)
    assert dicom.orientation == pytest.approx(nifti.orientation, abs=1e-5)
    assert dicom.spacing_mm == pytest.approx(nifti.spacing_mm)
    assert dicom.slice_thickness_mm == pytest.approx(nifti.slice_thickness_mm)


def test_a_seed_gives_the_same_bytes_and_another_cine_other_identifiers(tmp_path, pixels):
    def written(name, frames, seed):
        folder = write_dicom(tmp_path / name, Cine(pixels=frames[:8], frame_time_ms=100.0, seed=seed))
        return [path.read_bytes() for path in sorted(folder.iterdir())]

    assert written("a", pixels, 5) == written("b", pixels, 5)
    written("c", pixels, 6)
    written("d", pixels[:, ::-1], 5)
    written("e", pixels, None)
    written("f", pixels, None)
    identifiers = [
        (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID, dataset.SOPInstanceUID)
        for dataset in (pydicom.dcmread(tmp_path / name / "frame_0001.dcm") for name in "acdef")
    ]
    assert len({uid for uids in identifiers for uid in uids}) == 20


def test_whole_numbers_are_kept_as_they_are(tmp_path):
    eight = np.random.default_rng(1).integers(0, 256, (8, 16, 16), dtype=np.uint8)
    sixteen = Cine(pixels=eight.astype(np.uint16) * 257, frame_time_ms=100.0, scanner_units=True)
    for name, cine in (("eight", Cine(pixels=eight, frame_time_ms=100.0)), ("sixteen", sixteen)):
        assert np.array_equal(read_dicom_folder(write_dicom(tmp_path / name, cine)).pixels, cine.pixels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"acquired": True}, "only synthetic cines are written as DICOM"),
        ({"scanner_units": True}, "given float64 in scanner units"),
        ({"spacing_mm": (1.0, 2.0)}, "expected square ones"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        write_dicom(tmp_path / "out", Cine(pixels=np.zeros((8, 4, 4)), frame_time_ms=20.0, **settings))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("description", ["", "x" * 65, "a\\b", "Füße", "two\nlines"])
def test_a_description_that_dicom_cannot_hold_is_refused(tmp_path, cine, description):
    with pytest.raises(ValueError, match="must be 1 to 64 printable ASCII characters without a backslash"):
        write_dicom(tmp_path / "out", cine, description)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_left_alone(folder, cine):
    with pytest.raises(OutputError, match="exists and is not empty"):
        write_dicom(folder, cine)


def test_white_stays_white_in_half_precision(tmp_path):
    pixels = np.linspace(0, 1, 10 * 32 * 32).reshape(10, 32, 32).astype(np.float16)
    write_dicom(tmp_path / "series", Cine(pixels=pixels, frame_time_ms=80.0))
    read = read_dicom_folder(tmp_path / "series").pixels
    assert np.array_equal(read, stored(pixels.astype(np.float64)))
