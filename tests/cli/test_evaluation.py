"""`cpgg measure`, `cpgg evaluate` and `cpgg report`, after the commands that make what they read."""

import json

import numpy as np
import pytest

from cpgg_hf import phantom
from cpgg_hf.phenotypes import NAMES, phenotype_index
from cpgg_hf.scans.nifti import write_nifti

from .running import FEW_STEPS, assert_one_sentence, run


def test_prepare_measure_and_evaluate_follow_each_other(model, subject, tmp_path, capsys):
    prepared, generated = tmp_path / "prepared", tmp_path / "generated"
    assert run("prepare", "nifti", subject / "cine.nii.gz", "--out", prepared, "--json") == 0
    assert json.loads(capsys.readouterr().out)["view"]["judged"] == "4ch"
    segmenter = ["--segmenter", f"{model}/segmenter"]
    assert run("measure", prepared / "cine.nii.gz", *segmenter, "--json") == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["spacing_mm"] == 1.8
    assert set(measured["phenotypes"]) <= set(NAMES)
    assert measured["units"].keys() == measured["phenotypes"].keys()

    assert run("generate", "--model", model, "--num-samples", 3, *FEW_STEPS, "--out", generated) == 0
    capsys.readouterr()
    assert run("evaluate", "controllability", generated, *segmenter, "--json") == 0
    rows = {row["phenotype"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"LVEDV", "septal_wall"} <= rows.keys()
    assert "AAo_max_area" not in rows
    assert rows["LVEDV"]["num_cines"] + rows["LVEDV"]["num_unmeasured"] == 3


def test_a_mask_is_measured_in_place_of_a_network(subject, tmp_path, capsys):
    """The phantom's own labels give its own volumes, by the formula that computed the labels from the volumes."""
    heart = phantom.render(phantom.sample_phenotypes(1, 4)[0], 4)
    labels = np.where(heart.labels == phantom.LABELS["descending aorta"], 0, heart.labels)
    write_nifti(tmp_path / "mask.nii.gz", labels, heart.cine.frame_time_ms, heart.cine.pixel_size_mm)
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


def test_phantoms_are_prepared_and_fidelity_is_judged_against_them(model, tmp_path, capsys):
    counts = ["--num-train", 1, "--num-validation", 0, "--num-test", 14]
    assert run("prepare", "phantom", *counts, "--out", tmp_path / "phantoms") == 0
    assert run("generate", "--model", model, "--num-samples", 7, *FEW_STEPS, "--out", tmp_path / "generated") == 0
    capsys.readouterr()
    assert run("evaluate", "fidelity", tmp_path / "generated", tmp_path / "phantoms", "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["precision_recall"]["precision"] == 0  # an untrained model's noise is nowhere near a heart


def test_report_sets_a_real_cine_beside_its_generated_one(model, subject, tmp_path, capsys):
    out = tmp_path / "report"
    asked = ["--phenotypes", subject / "phenotypes.json", "--model", model]
    assert run("report", subject / "cine.nii.gz", *asked, "--out", out, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "report.json").read_text())
    assert sorted(path.name for path in out.iterdir()) == ["report.gif", "report.json", "report.png"]
    assert 0 < printed["vae_reconstruction"]["psnr_db"] < 30
    known = json.loads((subject / "phenotypes.json").read_text())["phenotypes"]
    rows = {row["phenotype"]: row for row in printed["phenotypes"]}
    assert {name: row["known"] for name, row in rows.items() if row["known"] is not None} == known
    assert all(rows[name]["completed"] == value for name, value in known.items())
    assert all(row["completed"] is not None for row in rows.values())


def test_unreadable_images_are_one_sentence(model, subject, tmp_path, capsys):
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes((subject / "cine.nii.gz").read_bytes()[:3000])
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        (("measure", cut, "--segmenter", f"{model}/segmenter"), "truncated"),
        (("measure", tmp_path / "none.nii.gz", "--segmenter", f"{model}/segmenter"), "does not exist"),
        (("measure", subject / "cine.nii.gz", "--segmenter", tmp_path / "none"), "there is no segmenter"),
        (("prepare", "dicom", tmp_path / "empty", "--out", tmp_path / "out"), "empty"),
        (("evaluate", "controllability", tmp_path / "empty"), "holds neither"),
    ):
        assert run(*arguments) == 1
        assert_one_sentence(capsys, message)
    assert not (tmp_path / "out").exists()
