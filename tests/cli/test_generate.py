"""`cpgg sample-phenotypes` and `cpgg generate`: what they write; a bad request leaves one sentence and no file."""

import json
import shutil

import nibabel
import numpy as np
import pytest
import torch

from cpgg_hf import CPGGPipeline
from cpgg_hf.dataset import load_cines
from cpgg_hf.phenotypes import phenotype_index, read_csv

from .running import FEW_STEPS, assert_one_sentence, run

LVEF = phenotype_index("LVEF")


def test_sample_phenotypes_writes_a_table_with_the_set_values(model, tmp_path):
    for name in ("first.csv", "again.csv"):
        arguments = ["--set", "LVEF=30", "--set", "24100=200", "--num-samples", 3, "--seed", 5]
        assert run("sample-phenotypes", "--model", model, *arguments, "--out", tmp_path / name) == 0
    table = read_csv(tmp_path / "first.csv")
    assert table.shape == (3, 82)
    assert (table[:, phenotype_index("LVEF")] == 30).all()
    assert (table[:, phenotype_index("LVEDV")] == 200).all()
    assert np.isfinite(table).all()
    assert (tmp_path / "first.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()


def test_generate_writes_the_pipelines_cines_whatever_the_batch_size(model, tmp_path):
    """With the phenotypes of `sample-phenotypes`."""
    request = ["--model", model, "--set", "LVEF=35", "--num-samples", 3, "--seed", 2]
    assert run("sample-phenotypes", *request, "--out", tmp_path / "sampled.csv") == 0
    for batch_size in (1, 3):
        out = tmp_path / f"batches-of-{batch_size}"
        arguments = [*request, *FEW_STEPS, "--batch-size", batch_size, "--format", "nifti,gif", "--out", out]
        assert run("generate", *arguments) == 0
    assert (out / "phenotypes.csv").read_bytes() == (tmp_path / "sampled.csv").read_bytes()
    record = json.loads((out / "cines.json").read_text())
    expected = CPGGPipeline.from_pretrained(model)(
        read_csv(out / "phenotypes.csv"),
        num_decoding_steps=2,
        num_inference_steps=2,
        generator=[torch.Generator().manual_seed(cine["seed"]) for cine in record],
    )
    for index in range(3):
        for batch_size in (1, 3):
            image = nibabel.load(tmp_path / f"batches-of-{batch_size}" / f"cine_{index:05d}.nii.gz")
            cine = np.asarray(image.dataobj)[:, :, 0].transpose(2, 1, 0)
            assert np.array_equal(cine, expected.cines[index])
        np.testing.assert_allclose(image.header.get_zooms()[:2], 1.8)
        assert image.header.get_zooms()[3] == pytest.approx(expected.frame_time_ms[index])
        assert image.header.get_xyzt_units() == ("mm", "msec")
        assert (out / f"cine_{index:05d}.gif").read_bytes()[:4] == b"GIF8"


def test_every_format_appears_under_its_name(model, tmp_path):
    out = tmp_path / "out"
    arguments = ["--model", model, "--set", "LVEF=35", "--where", "LVEDV > 100", "--verify", *FEW_STEPS]
    assert run("generate", *arguments, "--format", "nifti,gif,webp,mp4,npz,dicom", "--out", out) == 0
    assert {path.name for path in out.iterdir() if path.name[0] != "."} == {
        *("data_policy.json", "generation.json", "phenotypes.csv", "cines.json", "cine_00000_dicom"),
        *(f"cine_00000.{ending}" for ending in ("nii.gz", "gif", "webp", "mp4", "npz")),
    }
    (record,) = json.loads((out / "cines.json").read_text())
    with np.load(out / "cine_00000.npz") as archive:
        assert archive["seed"] == record["seed"]
    assert "measured" in record
    assert read_csv(out / "phenotypes.csv")[0, phenotype_index("LVEDV")] > 100


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("LVEF,LVEDVV\n55,150\n", "unknown phenotype 'LVEDVV'; did you mean 'LVEDV'"),
        ("LVEDV\n-150\n", "LVEDV = -150"),
        ("LVEDV,LVESV,LVEF\n150,60,30\n", "contradict each other"),
        ("LVEDV,LVESV\n100,130\n", "LVEDV must be above LVESV"),
        ("LVEF\n0.3\n", "multiply by 100"),
        ("LVEF\nthirty\n", "is not a number"),
        ("LVEF,24103\n55,55\n", "both LVEF"),
        ("", "not a readable CSV"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "sample-phenotypes"])
def test_a_bad_table_is_one_sentence_and_no_file(command, table, message, tmp_path, capsys):
    path = tmp_path / "table.csv"
    path.write_text(table)
    assert run(command, "--model", "never-loaded", "--phenotypes", path, "--out", tmp_path / "out") == 1
    assert_one_sentence(capsys, message)
    assert list(tmp_path.iterdir()) == [path]


def _truncate(model):
    path = model / "mar" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def _pickle(model):
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    torch.save({}, path.with_suffix(".bin"))
    path.unlink()


def _foreign(model):
    (model / "model_index.json").write_text('{"_class_name": "DiTPipeline"}')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "model.safetensors is damaged"),
        (_pickle, "is a pickle"),
        (_foreign, "describes DiTPipeline, not CPGGPipeline"),
        (shutil.rmtree, "neither a folder nor the name of a Hub repository"),
    ],
)
def test_a_bad_checkpoint_is_one_sentence_and_no_file(model, damage, message, tmp_path, capsys):
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    damage(copy)
    assert run("generate", "--model", copy, "--set", "LVEF=30", "--out", tmp_path / "new" / "out") == 1
    assert_one_sentence(capsys, message)
    assert [path for path in tmp_path.iterdir() if path != copy] == []


def test_failing_half_way_leaves_nothing(model, tmp_path, capsys):
    out = tmp_path / "a" / "b"
    assert run("generate", "--model", model, "--num-decoding-steps", 41, "--out", out) == 1
    assert_one_sentence(capsys, "num_decoding_steps must lie between 1 and 40")
    assert list(tmp_path.iterdir()) == []


def test_results_are_never_overwritten(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    assert run("generate", "--model", "never-loaded", "--out", tmp_path / "out") == 1
    assert_one_sentence(capsys, "is not empty and has no generation.json")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def parquet(model, out, *arguments):
    return run("generate", "--model", model, "--format", "parquet", "--out", out, *FEW_STEPS, *arguments)


def test_a_verified_set_of_a_condition_is_written_continued_and_evaluated(model, tmp_path, capsys):
    out = tmp_path / "set"
    arguments = ["--num-samples", 3, "--where", "LVEF < 60", "--max-error", "LVEF=1", "--split", "test", "--seed", 3]
    assert parquet(model, out, *arguments) == 0
    assert "wrote 3 cines to" in capsys.readouterr().out
    rows = load_cines(out, "test", cache_dir=tmp_path / "cache")
    assert all(row["phenotypes"][LVEF] < 60 for row in rows)
    assert all(len(row["measured"]) == 82 and 1 <= row["attempt"] <= 5 for row in rows)
    assert {row["data_policy"] for row in rows} == {"phantom"}  # inherited from the model
    assert parquet(model, out, *arguments) == 0
    assert parquet(model, out, *arguments, "--where", "LVEDV > 100") == 1
    assert "request.where = ['LVEF < 60'] (now ['LVEF < 60', 'LVEDV > 100'])" in capsys.readouterr().err
    segmenter = ["--segmenter", f"{model}/cine_segmenter"]
    assert run("evaluate", "controllability", out, *segmenter, "--json") == 0
    assert isinstance(json.loads(capsys.readouterr().out), list | dict)


def test_a_tables_rows_are_what_its_cines_are_conditioned_on(model, tmp_path):
    (tmp_path / "asked.csv").write_text("LVEF,LVEDV\n30,200\n,150\n")
    assert parquet(model, tmp_path / "set", "--phenotypes", tmp_path / "asked.csv", "--num-samples", 2) == 0
    rows = load_cines(tmp_path / "set", cache_dir=tmp_path / "cache")
    phenotypes = np.array(rows["phenotypes"])
    assert phenotypes[:, phenotype_index("LVEDV")].tolist() == [200, 200, 150, 150]
    assert phenotypes[:2, LVEF].tolist() == [30, 30]
    assert np.isfinite(phenotypes).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--where", "LVEF"], "invalid condition 'LVEF'; use NAME < NUMBER"),
        (["--where", "LVFE < 40"], "did you mean 'LVEF'"),
        (["--set", "LVEF=60", "--where", "LVEF < 40"], "row 0 fixes LVEF at 60, which breaks the condition"),
        (["--max-error", "LVEF=5", "--max-error", "LVEF=6"], "--max-error gives LVEF more than once"),
    ],
)
def test_a_bad_condition_is_one_sentence_and_no_file(arguments, message, tmp_path, capsys):
    assert parquet("never-loaded", tmp_path / "set", *arguments) == 1
    assert_one_sentence(capsys, message)
    assert list(tmp_path.iterdir()) == []
