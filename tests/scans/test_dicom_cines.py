"""Several cines in one folder are told apart, listed by what differs, and read one at a time."""

import numpy as np
import pydicom
import pytest
from dicom_files import write_dicom_series

from cpgg_hf.errors import InputError
from cpgg_hf.scans.dicom import read_dicom_folder, read_middle_slice

UID = "1.2.3"
TIMES = np.arange(20) * 33.0


@pytest.fixture
def cine() -> np.ndarray:
    """Twenty frames whose brightness tells their number."""
    noise = np.random.default_rng(0).integers(0, 50, (20, 20, 24))
    return noise + 100 * np.arange(1, 21)[:, None, None]


def write_two(folder, cine, tag, values, shift_ms=0.0, series_numbers=(6, 6), uids=(UID, UID)):
    """Two cines of which the second has its values doubled; `tag` has one value in each."""
    for part, value in enumerate(values):

        def change(index, dataset, part=part, value=value):
            dataset.InstanceNumber = 101 + 20 * part + index
            dataset.SeriesNumber = series_numbers[part]
            if tag:
                setattr(dataset, tag, value)

        write_dicom_series(
            folder,
            cine * (part + 1),
            times=TIMES + part * shift_ms,
            rr_ms=660,
            series_uid=uids[part],
            prefix=f"part{part}_",
            change=change,
        )
    return folder


@pytest.mark.parametrize(
    ("tag", "values", "shift_ms", "listed"),
    [
        ("AcquisitionNumber", (1, 2), 16.5, "acquisition 1.*acquisition 2"),
        ("AcquisitionNumber", (1, 2), 0.0, "acquisition 1.*acquisition 2"),
        ("EchoNumbers", (1, 2), 0.6, "echo 1.*echo 2"),
        ("ImagePositionPatient", ([-120.0, -60, 40], [-120.0, -60, 48]), 0.0, r"slice at \(-120.0, -60.0, 40.0\) mm"),
        (
            "ImageType",
            (["ORIGINAL", "PRIMARY", "M"], ["DERIVED", "PRIMARY", "M"]),
            16.5,
            "ImageType DERIVED/PRIMARY/M",
        ),
        ("", (None, None), 16.5, "instances 101 to 120.*instances 121 to 140"),
    ],
)
def test_two_cines_in_one_series_are_listed_and_either_is_read(tmp_path, cine, tag, values, shift_ms, listed):
    write_two(tmp_path, cine, tag, values, shift_ms)
    with pytest.raises(
        InputError, match=rf"holds 2 cines, expected one \(6-1: 20 frames.*{listed}.*\(series, --series"
    ):
        read_dicom_folder(tmp_path)
    found = [read_dicom_folder(tmp_path, series=label).pixels for label in ("6-1", "6-2")]
    first = 0 if found[0].mean() < found[1].mean() else 1
    assert np.array_equal(found[first], cine)
    assert np.array_equal(found[1 - first], 2 * cine)
    with pytest.raises(InputError, match=r"holds 2 cines, asked for '6' \(6-1: "):
        read_dicom_folder(tmp_path, series="6")


def test_series_are_called_by_their_number(tmp_path, cine):
    write_two(tmp_path, cine, "", (None, None), series_numbers=(6, 11), uids=("1.2.3", "1.2.4"))
    assert np.array_equal(read_dicom_folder(tmp_path, series="11").pixels, 2 * cine)
    with pytest.raises(InputError, match=r"holds 2 series, asked for '1' \(6: .*; 11: "):
        read_dicom_folder(tmp_path, series="1")


def test_a_number_for_each_frame_makes_no_acquisitions(tmp_path, cine):
    """Siemens counts the frames of a cine as acquisitions."""
    write_dicom_series(tmp_path, cine, change=lambda index, dataset: setattr(dataset, "AcquisitionNumber", index + 1))
    assert np.array_equal(read_dicom_folder(tmp_path).pixels, cine)


def test_frames_with_series_identifiers_of_their_own_are_one_series_with_a_warning(tmp_path, cine):
    def renew(index, dataset):
        dataset.SeriesInstanceUID, dataset.SeriesNumber = f"1.2.{index + 1}", 6

    write_dicom_series(tmp_path, cine, change=renew)
    series = read_dicom_folder(tmp_path)
    assert np.array_equal(series.pixels, cine)
    assert "SeriesInstanceUID differs in every file" in series.warnings[0]


def test_identifiers_of_their_own_do_not_mix_series_or_slices(tmp_path, cine):
    for part in range(3):

        def renew(index, dataset, part=part):
            dataset.SeriesInstanceUID, dataset.SeriesNumber = f"1.2.{part}.{index + 1}", 6 + part // 2
            dataset.ImagePositionPatient = [-120.0, -60.0, 40.0 + 8 * part]

        write_dicom_series(tmp_path, cine * (part + 1), prefix=f"part{part}_", change=renew)
    with pytest.raises(InputError, match=r"holds 3 cines, expected one \(6-1: .*; 6-2: .*; 7: "):
        read_dicom_folder(tmp_path)
    assert np.array_equal(read_dicom_folder(tmp_path, series="7").pixels, 3 * cine)
    assert np.array_equal(read_middle_slice([tmp_path]).pixels, 2 * cine)


def test_of_many_cines_some_are_listed(tmp_path, cine):
    for number in range(12):
        for path in write_dicom_series(tmp_path, cine[:8], prefix=f"part{number}_"):
            dataset = pydicom.dcmread(path)
            dataset.SeriesNumber = number
            dataset.save_as(path)
    with pytest.raises(InputError, match=r"holds 12 series.*; 7: [^;]*; \.\.\.\)"):
        read_dicom_folder(tmp_path)


@pytest.mark.parametrize(
    ("tag", "values"), [("PatientID", ("a", "b")), ("PatientBirthDate", ("19500101", "19600101"))]
)
def test_frames_of_two_subjects_are_refused_without_naming_them(tmp_path, cine, tag, values):
    write_dicom_series(
        tmp_path, cine, times=TIMES, rr_ms=660, change=lambda index, dataset: setattr(dataset, tag, values[index % 2])
    )
    with pytest.raises(InputError, match=f"{tag} differs between the frames") as refusal:
        read_dicom_folder(tmp_path)
    assert values[1] not in str(refusal.value).replace(str(tmp_path), "").split()
