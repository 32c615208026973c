"""`cpgg measure`: generated cines, scans, and masks."""

import json

import numpy as np
import pytest

from cpgg_hf import phantom
from cpgg_hf.cine import Cine
from cpgg_hf.exports.dicom import write_dicom
from cpgg_hf.exports.nifti import write_nifti
from cpgg_hf.phenotypes import NAMES, phenotype_index

from .running import assert_one_sentence, run


def test_a_prepared_cine_is_measured(subject, tmp_path, capsys):
    prepared = tmp_path / "prepared"
    assert run("prepare", "nifti", subject / "cine.nii.gz", "--out", prepared, "--json") == 0
    assert json.loads(capsys.readouterr().out)["view"]["estimated"] == "4ch"
    assert run("measure", prepared / "cine.nii.gz", "--json") == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["spacing_mm"] == 1.8
    assert set(measured["phenotypes"]) <= set(NAMES)
    assert measured["units"].keys() == measured["phenotypes"].keys()


def test_a_mask_is_measured_in_place_of_a_network(subject, tmp_path, capsys):
    """The phantom's own labels give its own volumes, by the formula that computed the labels from the volumes."""
    heart = phantom.render(phantom.sample_phenotypes(1, 4)[0], 4)
    labels = np.where(heart.labels == phantom.LABELS["descending aorta"], 0, heart.labels)
    write_nifti(tmp_path / "mask.nii.gz", heart.cine.with_pixels(labels.astype(np.uint8)))
    assert run("measure", subject / "cine.nii.gz", "--mask", tmp_path / "mask.nii.gz", "--json") == 0
    measured = json.loads(capsys.readouterr().out)
    for name, tolerance in (("LVEDV", 0.04), ("LVEF", 0.04), ("RVEDV", 0.05), ("LAV_max", 0.06)):
        assert measured["phenotypes"][name] == pytest.approx(heart.phenotypes[phenotype_index(name)], rel=tolerance)
    assert abs(measured["end_systole_frame"] - heart.end_systole) <= 1
    curve = measured["volume_curves_ml"]["LV"]
    assert len(curve) == 50
    volumes = measured["phenotypes"]["LVEDV"], measured["phenotypes"]["LVESV"]
    assert (curve[0], min(curve)) == pytest.approx(volumes, abs=0.01)
    arguments = ["--mask", tmp_path / "mask.nii.gz", "--out", tmp_path / "out"]
    assert run("prepare", "nifti", subject / "cine.nii.gz", *arguments) == 0
    center = json.loads((tmp_path / "out/report.json").read_text())["prepared"]["center_row_column"]
    places = np.argwhere((labels > 0).any(axis=0))
    assert center == pytest.approx((places.min(axis=0) + places.max(axis=0)) / 2, abs=0.51)


def test_a_synthetic_cine_is_measured_alike_from_dicom_and_nifti(tmp_path, capsys):
    """DICOM stores it in 12 bits, NIfTI as numbers in [0, 1]; either is a synthetic cine, not a scan."""
    heart = phantom.render(phantom.sample_phenotypes(1, 4)[0], 4)
    for name, pixels in (("float", heart.cine.unit), ("uint8", heart.cine.pixels)):
        write_dicom(tmp_path / name, heart.cine.with_pixels(pixels))
    write_nifti(tmp_path / "cine.nii.gz", heart.cine.with_pixels(heart.cine.unit))
    write_nifti(tmp_path / "uint8.nii.gz", heart.cine.with_pixels(heart.cine.pixels, source="cpgg"))
    found = []
    for name in ("cine.nii.gz", "float", "uint8", "uint8.nii.gz"):
        assert run("measure", tmp_path / name, "--json") == 0
        found.append(json.loads(capsys.readouterr().out)["phenotypes"])
    assert found[0]["LVEDV"] == pytest.approx(heart.phenotypes[phenotype_index("LVEDV")], rel=0.05)
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=0.005, abs=0.05)


def test_pictures_and_numbers_are_written_where_they_are_wanted(subject, tmp_path, capsys):
    assert run("measure", subject / "cine.nii.gz", "--out", tmp_path / "out", "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "out/measurement.json").read_text())
    written = ["measurement.json", "overlay.gif", "overlay.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == written


def test_a_mask_of_one_frame_cannot_be_measured(subject, tmp_path, capsys):
    heart = phantom.render(phantom.sample_phenotypes(1, 4)[0], 4)
    labels = np.where(heart.labels == phantom.LABELS["descending aorta"], 0, heart.labels)[:1].astype(np.uint8)
    write_nifti(tmp_path / "mask.nii.gz", Cine(pixels=labels, frame_time_ms=18.0))
    assert run("measure", subject / "cine.nii.gz", "--mask", tmp_path / "mask.nii.gz") == 1
    assert_one_sentence(capsys, "has labels of one frame; give labels of every frame")


def test_unreadable_images_are_one_sentence(model, subject, tmp_path, capsys):
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes((subject / "cine.nii.gz").read_bytes()[:3000])
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        (("measure", cut, "--segmenter", f"{model}/cine_segmenter"), "cut off|truncated"),
        (("measure", tmp_path / "none.nii.gz", "--segmenter", f"{model}/cine_segmenter"), "does not exist"),
        (("measure", subject / "cine.nii.gz", "--segmenter", tmp_path / "none"), "there is no segmenter"),
        (("prepare", "dicom", tmp_path / "empty", "--out", tmp_path / "out"), "empty"),
        (("evaluate", "controllability", tmp_path / "empty"), "has neither"),
    ):
        assert run(*arguments) == 1
        assert_one_sentence(capsys, message)
    assert not (tmp_path / "out").exists()
