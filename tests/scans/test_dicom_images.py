"""Which images are read: Enhanced MR, files without a preamble, magnitude only, MR only, inverted grey values."""

import numpy as np
import pydicom
import pytest
from dicom_files import FOUR_CHAMBER, write_dicom_series, write_enhanced
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from cpgg_hf.errors import InputError
from cpgg_hf.scans import read_scan
from cpgg_hf.scans.dicom import read_dicom_folder, read_middle_slice

TIMES = 10 + np.arange(20) * 33.0
PLACE = np.array([-120.0, -60.0, 40.0])
NORMAL = np.cross(FOUR_CHAMBER[:3], FOUR_CHAMBER[3:])


@pytest.fixture
def cine() -> np.ndarray:
    """Twenty frames whose brightness tells their number."""
    noise = np.random.default_rng(0).integers(0, 50, (20, 20, 24))
    return noise + 100 * np.arange(1, 21)[:, None, None]


def test_an_enhanced_file_is_read_with_the_values_of_its_frames(tmp_path, cine):
    order = np.random.default_rng(1).permutation(20)
    path = write_enhanced(tmp_path / "a/IM1", cine[order], times=TIMES[order], positions=[PLACE] * 20)
    for source in (path, tmp_path / "a"):
        series = read_scan(source)
        assert np.array_equal(series.pixels, 2 * cine - 10)
        assert series.times_ms == pytest.approx(TIMES)
        assert series.spacing_mm == (1.4, 1.4)
        assert series.position.tolist() == PLACE.tolist()
        assert series.orientation == pytest.approx(FOUR_CHAMBER, abs=1e-6)
        assert series.slice_thickness_mm == 6
        assert series.warnings == ()


def test_slices_of_an_enhanced_file_are_distinguished(tmp_path, cine):
    stack = np.concatenate([cine, cine + 1, cine + 2])
    positions = np.repeat([PLACE, PLACE + 8 * NORMAL, PLACE + 16 * NORMAL], 20, axis=0)
    write_enhanced(tmp_path / "IM1.dcm", stack, times=np.tile(TIMES, 3), positions=positions)
    with pytest.raises(InputError, match=r"holds 3 cines, expected one \(7-1: 20 frames"):
        read_dicom_folder(tmp_path)
    assert np.array_equal(read_dicom_folder(tmp_path, series="7-3").pixels, 2 * (cine + 2) - 10)
    assert np.array_equal(read_middle_slice([tmp_path]).pixels, 2 * (cine + 1) - 10)


def test_the_interval_of_an_enhanced_file_is_the_beat(tmp_path, cine):
    def state(dataset):
        for group in dataset.PerFrameFunctionalGroupsSequence:
            group.CardiacSynchronizationSequence[0].RRIntervalTimeNominal = 800.0

    write_enhanced(tmp_path / "IM1.dcm", cine, times=TIMES, positions=[PLACE] * 20, change=state)
    series = read_dicom_folder(tmp_path)
    assert series.rr_ms == 800
    assert "leave out the last 16% of the beat" in series.warnings[0]


def test_an_enhanced_file_that_contradicts_itself_is_refused(tmp_path, cine):
    def shorten(dataset):
        dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:12]

    write_enhanced(tmp_path / "IM1.dcm", cine, times=TIMES, positions=[PLACE] * 20, change=shorten)
    with pytest.raises(InputError, match="states 20 frames and describes 12"):
        read_dicom_folder(tmp_path)


def test_frames_without_times_in_one_file_are_refused(tmp_path, cine):
    def forget(dataset):
        del dataset.PerFrameFunctionalGroupsSequence

    write_enhanced(tmp_path / "IM1.dcm", cine, times=TIMES, positions=[PLACE] * 20, change=forget)
    with pytest.raises(InputError, match="holds 20 frames in one file without their times and places"):
        read_dicom_folder(tmp_path)


@pytest.mark.parametrize(
    "kind", [["P", "VELOCITY MAP"], ["PHASE MAP", "P", "FFE"], ["P", "ND"], ["R_FFE", "R", "FFE"], ["VELOCITY"]]
)
@pytest.mark.parametrize("enhanced", [False, True])
def test_phase_images_are_left_out_and_named(tmp_path, cine, kind, enhanced):
    magnitude = ["ORIGINAL", "PRIMARY", "M", "FFE"]
    phase = ["ORIGINAL", "PRIMARY", *kind]
    if enhanced:
        both = np.concatenate([cine, np.full_like(cine, 2000) + cine[::-1]])
        types = [magnitude] * 20 + [phase] * 20
        times = np.r_[TIMES, TIMES + 0.6]
        write_enhanced(tmp_path / "IM1", both, times=times, positions=[PLACE] * 40, frame_types=types)
        expected = 2 * cine - 10
    else:
        for part, image_type in enumerate((magnitude, phase)):
            change = lambda index, dataset, image_type=image_type: setattr(dataset, "ImageType", image_type)  # noqa: E731
            values = cine if part == 0 else 3000 - cine
            write_dicom_series(
                tmp_path,
                values,
                times=TIMES + 0.6 * part,
                series_uid="1.2.3",
                prefix=f"{part}_",
                change=change,
                rr_ms=660,
            )
        expected = cine
    series = read_dicom_folder(tmp_path)
    assert np.array_equal(series.pixels, expected)
    assert "20 phase images (by ImageType) were left out" in series.warnings[0]


def test_phase_images_only_are_refused(tmp_path, cine):
    def describe(index, dataset):
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "P", "ND"]

    write_dicom_series(tmp_path, cine, change=describe)
    with pytest.raises(InputError, match=r"phase images only .ImageType ORIGINAL/PRIMARY/P/ND.; give the magnitude"):
        read_dicom_folder(tmp_path)


def test_another_modality_is_named_and_passed_over(tmp_path, cine):
    write_dicom_series(tmp_path / "ct", cine, change=lambda index, dataset: setattr(dataset, "Modality", "CT"))
    with pytest.raises(InputError, match="holds images of the Modality CT, expected MR"):
        read_dicom_folder(tmp_path)
    write_dicom_series(tmp_path / "mr", cine)
    series = read_dicom_folder(tmp_path)
    assert np.array_equal(series.pixels, cine)
    assert "20 images of another Modality than MR were skipped" in series.warnings[0]


@pytest.mark.parametrize("signed", [False, True])
def test_inverted_grey_values_are_turned_round(tmp_path, cine, signed):
    def invert(index, dataset):
        dataset.PhotometricInterpretation = "MONOCHROME1"
        if signed:
            dataset.PixelRepresentation = 1
        else:
            dataset.BitsStored, dataset.HighBit = 12, 11
        stored = -1 - cine[index] if signed else 4095 - cine[index]
        dataset.PixelData = stored.astype("<i2").tobytes()

    write_dicom_series(tmp_path, cine, change=invert)
    assert np.array_equal(read_dicom_folder(tmp_path).pixels, cine)


@pytest.mark.parametrize("syntax", ["meta kept", ImplicitVRLittleEndian, ExplicitVRBigEndian, "explicit"])
@pytest.mark.parametrize("ending", ["", ".dcm"])
def test_files_without_a_preamble_are_read(tmp_path, cine, syntax, ending):
    for path in write_dicom_series(tmp_path, cine):
        content = path.read_bytes()
        if syntax == "meta kept":
            content = content[132:]
        else:
            dataset = pydicom.dcmread(path)
            del dataset.file_meta
            implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
            if not little:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
            pydicom.dcmwrite(
                path,
                dataset,
                implicit_vr=implicit,
                little_endian=little,
                enforce_file_format=False,
                force_encoding=True,
            )
            content = path.read_bytes()
        path.unlink()
        path.with_suffix(ending).write_bytes(content)
    series = read_scan(tmp_path)
    assert np.array_equal(series.pixels, cine)
    assert series.rr_ms == pytest.approx(900)
