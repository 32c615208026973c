"""`cpgg report`: a real cine next to a generated one."""

import json

from cpgg_hf.hub.policy import stated_policies

from .running import run


def test_report_compares_a_real_cine_with_its_generated_one(model, subject, tmp_path, capsys):
    out = tmp_path / "report"
    asked = ["--phenotypes", subject / "phenotypes.json", "--model", model]
    assert run("report", subject / "cine.nii.gz", *asked, "--out", out, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "report.json").read_text())
    assert sorted(path.name for path in out.iterdir()) == [
        "data_policy.json",
        "report.gif",
        "report.json",
        "report.png",
    ]
    assert set(stated_policies(out)) == {(f"report.{ending}", "restricted") for ending in ("gif", "json", "png")}
    assert 0 < printed["vae_reconstruction"]["psnr_db"] < 30
    known = json.loads((subject / "phenotypes.json").read_text())["phenotypes"]
    rows = {row["phenotype"]: row for row in printed["phenotypes"]}
    assert {name: row["known"] for name, row in rows.items() if row["known"] is not None} == known
    assert all(rows[name]["completed"] == value for name, value in known.items())
    assert all(row["completed"] is not None for row in rows.values())
