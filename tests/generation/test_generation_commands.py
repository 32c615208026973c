"""`cpgg generate --format parquet`: the data set, what it refuses, how it is read again."""

import json

import numpy as np
import pytest

from cpgg_hf.cli.main import main
from cpgg_hf.dataset import load_cines
from cpgg_hf.phenotypes import phenotype_index

LVEF = phenotype_index("LVEF")
FEW_STEPS = ["--num-decoding-steps", "2", "--num-inference-steps", "2"]


def generate(model, out, *arguments):
    command = ["generate", "--model", model, "--format", "parquet", "--out", out, *FEW_STEPS, *arguments]
    return main([str(argument) for argument in command])


def test_a_verified_set_of_a_condition_is_written_continued_and_evaluated(model, tmp_path, capsys):
    out = tmp_path / "set"
    arguments = ["--num-samples", 3, "--where", "LVEF < 60", "--max-error", "LVEF=1", "--split", "test", "--seed", 3]
    assert generate(model, out, *arguments) == 0
    assert "wrote 3 cines to" in capsys.readouterr().out
    rows = load_cines(out, "test", cache_dir=tmp_path / "cache")
    assert all(row["phenotypes"][LVEF] < 60 for row in rows)
    assert all(len(row["measured"]) == 82 and 1 <= row["attempt"] <= 5 for row in rows)
    assert {row["data_policy"] for row in rows} == {"phantom"}  # inherited from the model
    assert generate(model, out, *arguments) == 0
    assert generate(model, out, *arguments, "--where", "LVEDV > 100") == 1
    assert "request.where = ['LVEF < 60'] (now ['LVEF < 60', 'LVEDV > 100'])" in capsys.readouterr().err
    segmenter = ["--segmenter", str(model / "cine_segmenter")]
    assert main(["evaluate", "controllability", str(out), *segmenter, "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list | dict)


def test_a_tables_rows_are_what_its_cines_are_conditioned_on(model, tmp_path):
    (tmp_path / "asked.csv").write_text("LVEF,LVEDV\n30,200\n,150\n")
    assert generate(model, tmp_path / "set", "--phenotypes", tmp_path / "asked.csv", "--num-samples", 2) == 0
    rows = load_cines(tmp_path / "set", cache_dir=tmp_path / "cache")
    phenotypes = np.array(rows["phenotypes"])
    assert phenotypes[:, phenotype_index("LVEDV")].tolist() == [200, 200, 150, 150]
    assert phenotypes[:2, LVEF].tolist() == [30, 30]
    assert np.isfinite(phenotypes).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--where", "LVEF"], "'LVEF' is no condition; write NAME < NUMBER"),
        (["--where", "LVFE < 40"], "did you mean 'LVEF'"),
        (["--set", "LVEF=60", "--where", "LVEF < 40"], "row 0 fixes LVEF at 60, which breaks the condition"),
        (["--max-error", "LVEF=5", "--max-error", "LVEF=6"], "--max-error gives LVEF more than once"),
        (["--format", "nifti", "--where", "LVEF < 40"], "need --format parquet"),
        (["--format", "nifti", "--split", "test"], "need --format parquet"),
    ],
)
def test_a_bad_request_is_one_sentence_and_no_file(arguments, message, tmp_path, capsys):
    assert generate("never-loaded", tmp_path / "set", *arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
