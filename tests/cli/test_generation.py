"""`cpgg sample-phenotypes` and `cpgg generate`: what they write; a bad request leaves one sentence and no file."""

import json
import shutil

import nibabel
import numpy as np
import pytest
import torch

from cpgg_hf import CPGGPipeline, phantom
from cpgg_hf.phenotypes import phenotype_index, read_csv, write_csv

from .running import FEW_STEPS, assert_one_sentence, run


def test_sample_phenotypes_writes_a_table_that_obeys(model, tmp_path):
    for name in ("first.csv", "again.csv"):
        arguments = ["--set", "LVEF=30", "--set", "24100=200", "--num-samples", 3, "--seed", 5]
        assert run("sample-phenotypes", "--model", model, *arguments, "--out", tmp_path / name) == 0
    table = read_csv(tmp_path / "first.csv")
    assert table.shape == (3, 82)
    assert (table[:, phenotype_index("LVEF")] == 30).all()
    assert (table[:, phenotype_index("LVEDV")] == 200).all()
    assert np.isfinite(table).all()
    assert (tmp_path / "first.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()


def test_a_request_that_no_heart_can_meet_writes_no_table(model, tmp_path, capsys):
    arguments = ["--set", "LVEDV=1000", "--set", "LVESV=50", "--num-samples", 20]
    assert run("sample-phenotypes", "--model", model, *arguments, "--out", tmp_path / "drawn.csv") == 1
    assert "would go with what was asked for" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_generate_writes_the_pipelines_cines_whatever_the_batch_size(model, tmp_path):
    write_csv(phantom.sample_phenotypes(3, 8), tmp_path / "asked.csv")
    for batch_size in (1, 3):
        arguments = ["--phenotypes", tmp_path / "asked.csv", "--seed", 2, "--batch-size", batch_size, *FEW_STEPS]
        out = tmp_path / f"batches-of-{batch_size}"
        assert run("generate", "--model", model, *arguments, "--format", "nifti,gif", "--out", out) == 0
    pipe = CPGGPipeline.from_pretrained(model)
    expected = pipe(
        read_csv(tmp_path / "asked.csv"),
        num_decoding_steps=2,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(2),
    )
    record = json.loads((out / "generation.json").read_text())
    assert [cine["seed"] for cine in record["cines"]] == expected.seeds.tolist()
    assert np.array_equal(read_csv(out / "phenotypes.csv"), expected.phenotypes.to_numpy())
    for index in range(3):
        for batch_size in (1, 3):
            image = nibabel.load(tmp_path / f"batches-of-{batch_size}" / f"cine_{index:05d}.nii.gz")
            cine = np.asarray(image.dataobj)[:, :, 0].transpose(2, 1, 0)
            assert np.array_equal(cine, expected.cines[index])
        np.testing.assert_allclose(image.header.get_zooms()[:2], 1.8)
        assert image.header.get_zooms()[3] == pytest.approx(expected.frame_time_ms[index])
        assert image.header.get_xyzt_units() == ("mm", "msec")
        assert (out / f"cine_{index:05d}.gif").read_bytes()[:4] == b"GIF8"


def test_every_format_holds_the_same_cine(model, tmp_path):
    from cpgg_hf.scans.dicom import read_dicom_folder

    out = tmp_path / "out"
    arguments = ["--model", model, "--set", "LVEF=35", *FEW_STEPS, "--format", "nifti,gif,webp,mp4,npz,dicom"]
    assert run("generate", *arguments, "--out", out) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {
        *("generation.json", "phenotypes.csv", "cine_00000_dicom"),
        *(f"cine_00000.{ending}" for ending in ("nii.gz", "gif", "webp", "mp4", "npz")),
    }
    cine = np.asarray(nibabel.load(out / "cine_00000.nii.gz").dataobj)[:, :, 0].transpose(2, 1, 0)
    (record,) = json.loads((out / "generation.json").read_text())["cines"]
    with np.load(out / "cine_00000.npz") as archive:
        assert np.array_equal(archive["cine"], cine)
        assert np.array_equal(archive["phenotypes"], read_csv(out / "phenotypes.csv")[0])
        assert archive["seed"] == record["seed"]
    series = read_dicom_folder(out / "cine_00000_dicom")
    assert np.abs(series.pixels / 4095 - cine).max() <= 0.5 / 4095 + 1e-6
    assert series.frame_time_ms == pytest.approx(record["frame_time_ms"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("LVEF,LVEDVV\n55,150\n", "unknown phenotype 'LVEDVV': did you mean 'LVEDV'"),
        ("LVEDV\n-150\n", "LVEDV = -150"),
        ("LVEDV,LVESV,LVEF\n150,60,30\n", "contradict each other"),
        ("LVEDV,LVESV\n100,130\n", "LVEDV must be above LVESV"),
        ("LVEF\n0.3\n", "multiply by 100"),
        ("LVEF\nthirty\n", "is no number"),
        ("LVEF,24103\n55,55\n", "both LVEF"),
        ("", "no readable CSV"),
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
        (shutil.rmtree, "there is no folder"),
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
    assert_one_sentence(capsys, "exists and is not empty")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"
