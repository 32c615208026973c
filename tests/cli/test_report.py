"""`cpgg report`: a real cine next to a generated one."""

import json
import shutil

import numpy as np
import pytest

from cpgg_hf import phantom
from cpgg_hf.exports.nifti import write_nifti
from cpgg_hf.hub.policy import stated_policies
from cpgg_hf.phenotypes import PHENOTYPES
from cpgg_hf.plane import TYPICAL_4CH_ORIENTATION

from .running import run


def test_report_compares_a_real_cine_with_its_generated_one(model, subject, tmp_path, capsys):
    out = tmp_path / "report"
    asked = ["--phenotypes", subject / "phenotypes.json", "--model", model]
    assert run("report", subject / "cine.nii.gz", *asked, "--out", out, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "report.json").read_text())
    written = ["overlay.gif", "overlay.png", "report.gif", "report.json", "report.png"]
    assert sorted(path.name for path in out.iterdir()) == ["data_policy.json", *written]
    assert set(stated_policies(out)) == {(name, "restricted") for name in written}
    assert 0 < printed["vae_reconstruction"]["psnr_db"] < 30
    known = json.loads((subject / "phenotypes.json").read_text())["phenotypes"]
    rows = {row["phenotype"]: row for row in printed["phenotypes"]}
    assert {name: row["known"] for name, row in rows.items() if row["known"] is not None} == known
    assert all(rows[name]["completed"] == value for name, value in known.items())
    assert all(row["completed"] is not None for row in rows.values())
    measurable = {phenotype.short_name for phenotype in PHENOTYPES if phenotype.measurable}
    assert {name for name, row in rows.items() if row["measurable"]} == measurable
    assert printed["note"].startswith("The models were trained on synthetic phantoms only, not on real hearts")


def test_a_report_claims_no_phantom_training_of_other_models(model, subject, tmp_path, capsys):
    other = shutil.copytree(model, tmp_path / "other")
    config = json.loads((other / "vae/config.json").read_text())
    (other / "vae/config.json").write_text(json.dumps(config | {"data_policy": "restricted"}))
    asked = ["--phenotypes", subject / "phenotypes.json", "--model", other, "--out", tmp_path / "report", "--json"]
    assert run("report", subject / "cine.nii.gz", *asked) == 0
    note = json.loads(capsys.readouterr().out)["note"]
    assert note == "A generated cine and the measurements are not medical evidence about the subject."


def test_the_table_shows_known_beside_measured_values_and_where_they_disagree(model, subject, tmp_path, capsys):
    known = json.loads((subject / "phenotypes.json").read_text())["phenotypes"]
    (tmp_path / "wrong.json").write_text(json.dumps({"phenotypes": {"LVEDV": known["LVEDV"] + 60}}))
    asked = ["--phenotypes", tmp_path / "wrong.json", "--model", model, "--out", tmp_path / "report"]
    assert run("report", subject / "cine.nii.gz", *asked) == 0
    printed = capsys.readouterr()
    (line,) = [line for line in printed.out.splitlines() if line.startswith("LVEDV")]
    name, unit, given, measured, *_ = line.split()
    assert (name, unit, float(given)) == ("LVEDV", "mL", pytest.approx(known["LVEDV"] + 60, abs=0.06))
    rows = {row["phenotype"]: row for row in json.loads((tmp_path / "report/report.json").read_text())["phenotypes"]}
    assert float(measured) == pytest.approx(rows["LVEDV"]["measured_real"], abs=0.06)
    assert line.endswith("known and measured differ")
    assert f"LVEDV is given as {given} mL but measured as {measured}; check both." in printed.err


def test_measure_and_report_measure_alike_although_report_mirrors_the_scan(model, subject, tmp_path, capsys):
    """A scan upside down and back to front, whose sides are not multiples of what the network halves."""
    heart = phantom.render(phantom.sample_phenotypes(1, 4)[0], 4)
    pixels = np.pad(heart.cine.pixels, ((0, 0), (11, 10), (9, 12)), mode="edge")[:, ::-1, ::-1]
    turned = -np.array(TYPICAL_4CH_ORIENTATION)
    scan = heart.cine.with_pixels(np.ascontiguousarray(pixels), orientation=turned)
    write_nifti(tmp_path / "scan.nii.gz", scan)
    assert run("measure", tmp_path / "scan.nii.gz", "--segmenter", f"{model}/scan_segmenter", "--json") == 0
    measured = json.loads(capsys.readouterr().out)
    asked = ["--phenotypes", subject / "phenotypes.json", "--model", model, "--out", tmp_path / "report", "--json"]
    assert run("report", tmp_path / "scan.nii.gz", *asked) == 0
    report = json.loads(capsys.readouterr().out)
    found = {row["phenotype"]: row["measured_real"] for row in report["phenotypes"]}
    assert {name: value for name, value in found.items() if value is not None} == pytest.approx(
        measured["phenotypes"], rel=1e-3
    )
    assert set(measured["warnings"]) <= set(report["warnings"])
