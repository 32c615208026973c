"""DICOM folders: the right order, the right geometry, and one clear sentence for each thing that is wrong."""

import sys
import tracemalloc

import numpy as np
import pydicom
import pytest
from dicom_files import FOUR_CHAMBER, PATIENT, write_dicom_series
from pydicom.uid import generate_uid

from cpgg_hf.errors import InputError
from cpgg_hf.scans.dicom import read_dicom_folder


@pytest.fixture
def cine() -> np.ndarray:
    """Ten frames whose brightness tells their number."""
    noise = np.random.default_rng(0).integers(0, 50, (10, 20, 24))
    return noise + 100 * np.arange(1, 11)[:, None, None]


def test_frames_are_sorted_by_trigger_time(tmp_path, cine):
    def reverse_numbers(index, dataset):
        dataset.InstanceNumber = 100 - index

    write_dicom_series(tmp_path, cine, spacing=(1.5, 1.25), change=reverse_numbers)
    series = read_dicom_folder(tmp_path)
    assert np.array_equal(series.pixels, cine)
    assert series.pixels.dtype == np.float32
    assert series.spacing_mm == (1.5, 1.25)
    assert series.rr_ms == pytest.approx(900)
    assert series.frame_time_ms == pytest.approx(90)
    assert series.position.tolist() == [-120, -60, 40]
    assert series.slice_thickness_mm == 6
    assert series.warnings == ()


def test_the_normal_is_perpendicular_to_rows_and_columns(tmp_path, cine):
    write_dicom_series(tmp_path, cine)
    normal = read_dicom_folder(tmp_path).normal
    assert np.linalg.norm(normal) == pytest.approx(1)
    assert np.abs(normal @ np.array(FOUR_CHAMBER).reshape(2, 3).T).max() < 1e-6


def test_without_trigger_times_instance_numbers_decide_with_a_warning(tmp_path, cine):
    def forget(index, dataset):
        del dataset.TriggerTime

    write_dicom_series(tmp_path, cine, change=forget)
    series = read_dicom_folder(tmp_path)
    assert np.array_equal(series.pixels, cine)
    assert series.rr_ms == pytest.approx(900)
    assert "no usable trigger times; frames sorted by InstanceNumber" in " ".join(series.warnings)


def test_prospective_gating_keeps_the_stated_beat_and_says_what_is_missing(tmp_path, cine):
    write_dicom_series(tmp_path, cine, times=np.arange(10) * 75.0, rr_ms=900)
    series = read_dicom_folder(tmp_path)
    assert series.rr_ms == 900
    assert "leave out the last 17% of the beat" in " ".join(series.warnings)


def test_an_rr_interval_can_be_given(tmp_path, cine):
    def forget(index, dataset):
        del dataset.TriggerTime
        del dataset.NominalInterval

    write_dicom_series(tmp_path, cine, change=forget)
    with pytest.raises(InputError, match=r"give the RR interval in ms \(rr_ms"):
        read_dicom_folder(tmp_path)
    assert read_dicom_folder(tmp_path, rr_ms=800).frame_time_ms == pytest.approx(80)


def test_identifiers_that_break_the_rules_warn_and_are_not_repeated(tmp_path, cine):
    uid = "1.2.840.00099.123456"
    with pytest.warns(UserWarning, match="Invalid value for VR UI"):
        write_dicom_series(tmp_path, cine, series_uid=uid)
    series = read_dicom_folder(tmp_path)
    assert len(series.pixels) == 10
    assert "break DICOM's rules" in series.warnings[0]
    assert uid not in " ".join(series.warnings)


def test_rescaling_is_applied(tmp_path, cine):
    def rescale(index, dataset):
        dataset.RescaleSlope, dataset.RescaleIntercept = 2.0, -10.0

    write_dicom_series(tmp_path, cine, change=rescale)
    assert np.array_equal(read_dicom_folder(tmp_path).pixels, 2 * cine - 10)


def test_other_files_are_passed_over_with_a_warning(tmp_path, cine):
    write_dicom_series(tmp_path, cine)
    (tmp_path / "notes.txt").write_text("second scan")
    series = read_dicom_folder(tmp_path)
    assert len(series.pixels) == 10
    assert "1 files that are not DICOM were skipped" in series.warnings[0]


def test_two_series_are_refused_by_name(tmp_path, cine):
    write_dicom_series(tmp_path, cine, description="cine 4ch")
    write_dicom_series(tmp_path, cine[:8], description="cine sax", prefix="other")
    with pytest.raises(InputError, match=r"holds 2 series, expected one \(1: 10 frames of 'cine 4ch'; 2: 8 frames of"):
        read_dicom_folder(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no DICOM images \(it is empty\)"):
        read_dicom_folder(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(InputError, match=r"holds no DICOM images \(files that are not DICOM: 1\)"):
        read_dicom_folder(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        read_dicom_folder(tmp_path / "absent")


def test_dicom_without_an_image_is_refused(tmp_path, cine):
    def report(index, dataset):
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
        for name in ("PixelData", "Rows", "Columns"):
            delattr(dataset, name)

    write_dicom_series(tmp_path, cine, change=report)
    with pytest.raises(InputError, match=r"no DICOM images .DICOM files without an image: 10"):
        read_dicom_folder(tmp_path)


@pytest.mark.parametrize("rr_ms", [-5.0, 0.9, float("nan")])
def test_an_rr_interval_that_no_heart_has_is_refused(tmp_path, cine, rr_ms):
    write_dicom_series(tmp_path, cine)
    with pytest.raises(InputError, match=r"the RR interval is given as .* expected 240 to 2500"):
        read_dicom_folder(tmp_path, rr_ms)


def test_frames_of_different_sizes_are_refused(tmp_path, cine):
    def shrink(index, dataset):
        if index == 4:
            dataset.Rows = 10
            dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]

    write_dicom_series(tmp_path, cine, change=shrink)
    with pytest.raises(InputError, match=r"differ in size, 20 x 24 and 10 x 24 \(.* and image028\.dcm\)"):
        read_dicom_folder(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.4, 0.8, 0.999])
def test_a_file_cut_off_anywhere_is_refused_by_name(tmp_path, cine, share):
    path = write_dicom_series(tmp_path, cine)[3]
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=rf"{path.name} is .*(its start is missing|cut off|truncated|damaged)"):
        read_dicom_folder(tmp_path)


def test_several_slices_are_refused(tmp_path, cine):
    def move(index, dataset):
        dataset.ImagePositionPatient = [-120.0, -60.0, 40.0 + 8 * (index // 5)]

    write_dicom_series(tmp_path, cine, change=move)
    with pytest.raises(InputError, match=r"holds 2 cines, .*-1: 5 frames of .*, slice at \(-120.0, -60.0, 40.0\) mm"):
        read_dicom_folder(tmp_path)


def test_mixed_spacing_is_refused(tmp_path, cine):
    def stretch(index, dataset):
        if index == 9:
            dataset.PixelSpacing = [1.4, 1.6]

    write_dicom_series(tmp_path, cine, change=stretch)
    with pytest.raises(InputError, match=r"PixelSpacing differs.*\[1.4, 1.4\] and \[1.4, 1.6\]"):
        read_dicom_folder(tmp_path)


def test_copies_of_frames_are_refused(tmp_path, cine):
    uid = generate_uid()
    write_dicom_series(tmp_path, cine, series_uid=uid)
    write_dicom_series(tmp_path / "again", cine, series_uid=uid)
    with pytest.raises(InputError, match="20 frames have only 10 different trigger times"):
        read_dicom_folder(tmp_path)


def test_too_few_or_empty_frames_are_refused(tmp_path, cine):
    write_dicom_series(tmp_path / "few", cine[:5], rr_ms=450)
    with pytest.raises(InputError, match="holds 5 frames, a cine needs at least 8"):
        read_dicom_folder(tmp_path / "few")
    cine[6] = 0
    write_dicom_series(tmp_path / "empty", cine)
    with pytest.raises(InputError, match="frame 7 of 10 is empty"):
        read_dicom_folder(tmp_path / "empty")


def test_half_a_series_is_refused(tmp_path, cine):
    write_dicom_series(tmp_path, cine[:8], times=np.arange(8) * 45.0, rr_ms=900)
    with pytest.raises(InputError, match="8 frames cover 360 ms of a beat of 900 ms"):
        read_dicom_folder(tmp_path)


def test_screenshots_are_refused(tmp_path, cine):
    def paint(index, dataset):
        dataset.PhotometricInterpretation = "RGB"

    write_dicom_series(tmp_path, cine, change=paint)
    with pytest.raises(InputError, match=r"not a plain grey image \(RGB\)"):
        read_dicom_folder(tmp_path)


def test_a_compression_that_cannot_be_decoded_says_what_to_install(tmp_path, cine):
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless

    def compress(index, dataset):
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset.PixelData = encapsulate([b"no image at all."])
        dataset["PixelData"].is_undefined_length = True

    write_dicom_series(tmp_path, cine, change=compress)
    with pytest.raises(InputError, match=r"compressed \(JPEG 2000.*install `pylibjpeg\[all\]`"):
        read_dicom_folder(tmp_path)


@pytest.mark.parametrize(("syntax", "error"), [("RLELossless", 0), ("JPEG2000Lossless", 0), ("JPEG2000", 20)])
def test_compressed_frames_are_decoded(tmp_path, syntax, error):
    cine = np.random.default_rng(0).integers(0, 900, (8, 64, 72))

    def compress(index, dataset):
        options = {"j2k_cr": [2]} if syntax == "JPEG2000" else {}
        dataset.compress(getattr(pydicom.uid, syntax), generate_instance_uid=False, **options)

    write_dicom_series(tmp_path, cine, change=compress)
    assert np.abs(read_dicom_folder(tmp_path).pixels - cine).max() <= error


@pytest.mark.parametrize("pixels_are", ["beyond int16", "signed"])
def test_no_integer_overflows(tmp_path, cine, pixels_are):
    """Unsigned values above 32767, and signed ones that a rescaling takes beyond int16."""
    high = 60_000 + cine if pixels_are == "beyond int16" else cine - 1000

    def describe(index, dataset):
        if pixels_are == "signed":
            dataset.PixelRepresentation, dataset.RescaleSlope, dataset.RescaleIntercept = 1, 100, -500
            dataset.PixelData = high[index].astype("<i2").tobytes()

    write_dicom_series(tmp_path, high.clip(0), change=describe)
    expected = high if pixels_are == "beyond int16" else 100 * high - 500
    assert np.array_equal(read_dicom_folder(tmp_path).pixels, expected)


def test_a_damaged_length_does_not_claim_the_memory(tmp_path, cine):
    path = write_dicom_series(tmp_path, cine)[3]
    content = bytearray(path.read_bytes())
    place = content.index(b"\xe0\x7f\x10\x00OW") + 8
    content[place : place + 4] = (2**32 - 2).to_bytes(4, "little")
    path.write_bytes(content)
    tracemalloc.start()
    assert np.array_equal(read_dicom_folder(tmp_path).pixels, cine)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**26


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [
        ("ImageOrientationPatient", [0.0] * 6, "directions of rows and columns are 0, 0, 0, 0, 0, 0, expected two"),
        ("ImageOrientationPatient", [1.0, 0, 0, 1, 0, 0], "expected two perpendicular unit vectors"),
        ("ImageOrientationPatient", [1e200, 0, 0, 0, 1e200, 0], "expected two perpendicular unit vectors"),
        ("ImagePositionPatient", [0.0, 0, 1e30], r"would lie at 0, 0, 1e\+30 mm, expected a place inside the scanner"),
        ("RescaleSlope", 1e30, "values up to .*, which no scanner writes; check the rescaling"),
    ],
)
def test_headers_that_make_no_sense_in_every_file_alike_are_refused(tmp_path, cine, tag, value, message):
    write_dicom_series(tmp_path, cine, change=lambda index, dataset: setattr(dataset, tag, value))
    with pytest.raises(InputError, match=message):
        read_dicom_folder(tmp_path)


def test_trigger_times_closer_than_a_scanners_are_refused(tmp_path, cine):
    times = np.arange(10) * 90.0
    times[4] = times[3] + 1e-6
    write_dicom_series(tmp_path, cine, times=times)
    with pytest.raises(InputError, match=r"times do not rise by at least 0\.5 ms per frame"):
        read_dicom_folder(tmp_path)


def test_a_slice_thickness_of_nothing_is_not_known(tmp_path, cine):
    def flatten(index, dataset):
        dataset.SliceThickness = 0

    write_dicom_series(tmp_path, cine, change=flatten)
    assert read_dicom_folder(tmp_path).slice_thickness_mm is None


def test_a_value_that_steers_a_terminal_is_not_repeated(tmp_path, cine):
    def paint(index, dataset):
        dataset.PhotometricInterpretation = "[2J"

    with pytest.warns(UserWarning, match="Invalid value for VR CS"):
        write_dicom_series(tmp_path, cine, change=paint)
    with pytest.raises(InputError, match=r"not a plain grey image \(\?\[2J\)"):
        read_dicom_folder(tmp_path)


def test_a_deflated_file_is_refused_before_it_is_inflated(tmp_path, cine):
    def deflate(index, dataset):
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian

    write_dicom_series(tmp_path, cine, change=deflate)
    with pytest.raises(InputError, match=r"\.dcm is deflated, so its uncompressed size is unknown; decompress it"):
        read_dicom_folder(tmp_path)


def test_a_header_that_claims_a_giant_image_is_refused(tmp_path, cine):
    def claim(index, dataset):
        dataset.Rows = dataset.Columns = 60000

    write_dicom_series(tmp_path, cine, change=claim)
    with pytest.raises(InputError, match="10 frames of 60000 x 60000 pixels are more than a cine has"):
        read_dicom_folder(tmp_path)


def test_no_message_names_the_patient(tmp_path, cine):
    write_dicom_series(tmp_path, cine)
    write_dicom_series(tmp_path, cine, prefix="other")
    with pytest.raises(InputError) as caught:
        read_dicom_folder(tmp_path)
    assert PATIENT not in str(caught.value)
    assert "1234567" not in str(caught.value)


def test_without_pydicom_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImportError, match=r"pip install 'cpgg_hf\[imaging\]'"):
        read_dicom_folder(tmp_path)
