"""`cpgg prepare` from a folder to a folder: everything needed comes out, or nothing at all."""

import json

import nibabel
import numpy as np
import pytest
from dicom_files import PATIENT, SHORT_AXIS, write_dicom_series
from nifti_files import write_nifti

from cpgg_hf.dataset import decode_cine, load_cines
from cpgg_hf.errors import InputError, OutputError
from cpgg_hf.hub.policy import stated_policies
from cpgg_hf.phenotypes import NAMES
from cpgg_hf.preparation.one_scan import prepare_one_scan


@pytest.fixture
def scan(tmp_path, heart):
    write_dicom_series(tmp_path / "scan", heart.field[::2], spacing=(1.8, 1.8), rr_ms=880)
    return tmp_path / "scan"


def test_a_dicom_folder_becomes_a_data_set_a_nifti_and_a_report(scan, tmp_path):
    (tmp_path / "known.json").write_text(json.dumps({"phenotypes": {"LVEDV": 180.0, "24101": 60.0}}))
    report = prepare_one_scan(scan, tmp_path / "out", phenotypes=tmp_path / "known.json")

    assert json.loads((tmp_path / "out/report.json").read_text()) == report
    stated = dict(stated_policies(tmp_path / "out"))
    assert {"cine.nii.gz", "report.json", "dataset.json"} < stated.keys()
    assert set(stated.values()) == {"restricted"}
    assert report["view"]["estimated"] == "4ch"
    assert report["acquired"]["num_frames"] == 25
    assert report["prepared"]["frame_time_ms"] == pytest.approx(17.6)

    (row,) = load_cines(tmp_path / "out", "test", cache_dir=tmp_path / "cache")
    assert (row["view"], row["source"], row["data_policy"]) == ("4ch", "dicom", "restricted")
    assert row["spacing_mm"] == 1.8
    assert row["frame_time_ms"] == pytest.approx(17.6)
    known = dict(zip(NAMES, row["phenotypes"], strict=True))
    assert (known["LVEDV"], known["LVESV"], known["LVSV"]) == (180, 60, 120)
    assert known["LVEF"] == pytest.approx(100 * 120 / 180)
    assert np.isnan(known["RVEDV"])

    image = nibabel.load(tmp_path / "out/cine.nii.gz")
    assert image.shape == (96, 96, 1, 50)
    assert image.header.get_zooms()[3] == pytest.approx(17.6)
    cine = np.asarray(image.dataobj)[:, :, 0].transpose(2, 1, 0)
    assert np.abs(cine - decode_cine(row) / 255).max() <= 0.5 / 255 + 1e-6


def test_nothing_of_the_patient_comes_out(scan, tmp_path):
    prepare_one_scan(scan, tmp_path / "out")
    (row,) = load_cines(tmp_path / "out", "test", cache_dir=tmp_path / "cache")
    row.pop("cine")
    for text in (str(row), *(path.read_bytes().decode("latin1") for path in (tmp_path / "out").iterdir())):
        assert PATIENT not in text
        assert "1234567" not in text


def test_a_nifti_file_gives_the_same_cine_as_its_dicom(scan, tmp_path):
    from cpgg_hf.plane import affine_of_plane
    from cpgg_hf.scans.dicom import read_dicom_folder

    series = read_dicom_folder(scan)
    affine = affine_of_plane((1.8, 1.8), series.orientation, series.position, 6.0)
    write_nifti(tmp_path / "scan.nii.gz", series.pixels, series.frame_time_ms, affine=affine)
    prepare_one_scan(scan, tmp_path / "a")
    report = prepare_one_scan(tmp_path / "scan.nii.gz", tmp_path / "b")
    assert report["source"] == "nifti"
    one, other = (nibabel.load(tmp_path / name / "cine.nii.gz") for name in "ab")
    assert other.get_fdata() == pytest.approx(one.get_fdata(), abs=1e-3)
    assert other.affine == pytest.approx(one.affine, abs=1e-3)


def test_a_short_axis_series_needs_view_any(tmp_path, heart):
    write_dicom_series(tmp_path / "scan", heart.field[::2], spacing=(1.8, 1.8), orientation=SHORT_AXIS)
    with pytest.raises(InputError, match=r"looks like short-axis \(SAX\).*--view any"):
        prepare_one_scan(tmp_path / "scan", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert prepare_one_scan(tmp_path / "scan", tmp_path / "out", view="any")["view"]["estimated"] == "sax"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ('{"LVEF": 60}', "holds no phenotypes; expected"),
        ('{"phenotypes": {"LVXF": 60}}', "LVXF"),
        ('{"phenotypes": {"LVEDV": 100, "LVESV": 150}}', "LVES?V|LVEDV"),
        ('{"phenotypes": {"LVEDV": -100}}', r"known\.json: .*LVEDV"),
        ('{"phenotypes": {"LVEF": [60, 50]}}', "lists of 2 values; expected one heart"),
        ('{"phenotypes": {"LVEF": 60, "LVEF": 50}}', "'LVEF' is there 2 times"),
        ('{"phenotypes": {"LVEF": true}}', "LVEF = True is not a number"),
        (f'{{"phenotypes": {{"LVEF": {400 * "9"}}}}}', r"LVEF = 9+\.\.\.9+ is not a number"),
        (f'{{"phenotypes": {100_000 * "["}{100_000 * "]"}}}', "cannot be read as JSON"),
    ],
)
def test_bad_phenotypes_are_refused_before_anything_is_read(scan, tmp_path, content, message):
    (tmp_path / "known.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        prepare_one_scan(scan, tmp_path / "out", phenotypes=tmp_path / "known.json")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_not_overwritten(scan, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="exists and is not empty"):
        prepare_one_scan(scan, tmp_path / "out")
    assert (tmp_path / "out/thesis.txt").read_text() == "years of work"


def test_a_failure_half_way_leaves_nothing(scan, tmp_path, monkeypatch):
    def full(*args, **details):
        raise OSError("no space left on device")

    monkeypatch.setattr("cpgg_hf.preparation.one_scan.write_description", full)
    with pytest.raises(OSError, match="no space left"):
        prepare_one_scan(scan, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["scan"]


def test_a_still_series_is_refused_with_its_name(tmp_path, heart):
    write_dicom_series(tmp_path / "scan", np.repeat(heart.field[:1], 20, axis=0), spacing=(1.8, 1.8))
    with pytest.raises(InputError, match="scan: nothing in the image moves"):
        prepare_one_scan(tmp_path / "scan", tmp_path / "out")
    assert not (tmp_path / "out").exists()
