"""`cpgg evaluate`: what it reads and reports."""

import json
from pathlib import Path

import numpy as np
from noise_sets import write_dataset

from cpgg_hf.cli.cines import read_cine_set
from cpgg_hf.errors import RequestError
from cpgg_hf.phenotypes import phenotype_index

from .running import FEW_STEPS, run


def test_controllability_of_generated_files(model, tmp_path, capsys):
    generated, segmenter = tmp_path / "generated", ["--segmenter", f"{model}/cine_segmenter"]
    assert run("generate", "--model", model, "--num-samples", 3, *FEW_STEPS, "--out", generated) == 0
    capsys.readouterr()
    assert run("evaluate", "controllability", generated, *segmenter, "--json") == 0
    rows = {row["phenotype"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"LVEDV", "septal_wall"} <= rows.keys()
    assert "AAo_max_area" not in rows
    assert rows["LVEDV"]["num_cines"] + rows["LVEDV"]["num_unmeasured"] == 3


def test_what_was_requested_has_bias_and_rmse_whatever_the_number_of_cines(model, tmp_path, capsys, monkeypatch):
    generated, segmenter = tmp_path / "generated", ["--segmenter", f"{model}/cine_segmenter"]
    request = ["--set", "LVEDV=150", "--set", "LVEF=60", "--num-samples", 3]
    assert run("generate", "--model", model, *request, *FEW_STEPS, "--out", generated) == 0
    capsys.readouterr()
    # An untrained model's cines show no heart that could be measured.
    monkeypatch.setattr(
        "cpgg_hf.measure.measure_cines", lambda cines, *_, **__: np.array([cine.phenotypes + 2.5 for cine in cines])
    )
    assert run("evaluate", "controllability", generated, *segmenter) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "nan" not in printed.out.lower()
    rows = {line.split()[0]: line.split() for line in printed.out.splitlines()}
    assert rows["LVEDV"] == ["LVEDV", "mL", "3", "0", "2.500", "2.500", "needs", "20", "cines"]


def test_fidelity_against_prepared_phantoms(model, tmp_path, capsys):
    counts = ["--num-train", 1, "--num-validation", 0, "--num-test", 14]
    assert run("prepare", "phantom", *counts, "--out", tmp_path / "phantoms") == 0
    assert run("generate", "--model", model, "--num-samples", 7, *FEW_STEPS, "--out", tmp_path / "generated") == 0
    capsys.readouterr()
    assert run("evaluate", "fidelity", tmp_path / "generated", tmp_path / "phantoms", "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["precision_recall"]["precision"] == 0  # an untrained model's noise is nowhere near a heart


def test_both_questions_read_the_named_splits(tmp_path, monkeypatch):
    generated = write_dataset(tmp_path / "generated", train=[41])
    reference = write_dataset(tmp_path / "reference", train=[51], test=[52])
    asked = []

    def stop(folder, split=None):
        cines = read_cine_set(folder, split)
        asked.append((Path(folder).name, [cine.phenotypes[phenotype_index("LVEF")] for cine in cines]))
        if len(asked) > 1:
            raise RequestError("enough was read.")
        return cines

    monkeypatch.setattr("cpgg_hf.cli.cines.read_cine_set", stop)
    monkeypatch.setattr("cpgg_hf.cli.models.load_segmenter", lambda _, device: 1 / 0)
    assert run("evaluate", "fidelity", generated, reference) == 1
    assert asked == [("generated", [41.0]), ("reference", [52.0])]
    asked.clear()
    assert run("evaluate", "fidelity", reference, reference, "--split", "test", "--reference-split", "train") == 1
    assert asked == [("reference", [52.0]), ("reference", [51.0])]
    asked.clear()
    assert run("evaluate", "controllability", generated) == 1
    assert run("evaluate", "controllability", reference, "--split", "train") == 1
    assert asked == [("generated", [41.0]), ("reference", [51.0])]
