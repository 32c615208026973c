"""Where commands find the checkpoint and its segmenters, and on which device and number type they run."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi

from cpgg_hf.cli import models
from cpgg_hf.cli.models import checkpoint_path, load_pipeline, load_segmenter, segmenter_path
from cpgg_hf.errors import RequestError

from .running import FEW_STEPS, assert_one_sentence, run


@pytest.fixture(autouse=True)
def _as_installed_from_a_wheel(monkeypatch, tmp_path):
    """No clone around the package, an empty working folder, no variable."""
    monkeypatch.setattr(models, "SHIPPED_CHECKPOINT", tmp_path / "lib" / "checkpoints")
    monkeypatch.delenv("CPGG_MODEL", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def test_the_default_is_the_variables_then_the_working_folders_then_the_clones(monkeypatch, tmp_path):
    (tmp_path / "lib" / "checkpoints").mkdir(parents=True)
    assert Path(checkpoint_path(None)).resolve() == tmp_path / "lib" / "checkpoints"
    Path("checkpoints/cpgg-phantom-small").mkdir(parents=True)
    assert checkpoint_path(None) == "checkpoints/cpgg-phantom-small"
    monkeypatch.setenv("CPGG_MODEL", "owner/name")
    assert checkpoint_path(None) == "owner/name"
    assert checkpoint_path("given") == "given"


@pytest.mark.parametrize("command", ["generate", "sample-phenotypes", "measure", "report", "prepare nifti"])
def test_without_a_checkpoint_a_command_says_how_to_give_it_one(command, subject, capsys, tmp_path):
    request = ["--phenotypes", subject / "phenotypes.json"]
    scan, out = subject / "cine.nii.gz", ["--out", tmp_path / "out"]
    arguments = {
        "generate": out,
        "sample-phenotypes": out,
        "measure": [scan],
        "report": [scan, *request, *out],
        "prepare nifti": [scan, *out],
    }
    assert run(*command.split(), *arguments[command]) == 1
    error = capsys.readouterr().err
    assert re.search(r"^error: no checkpoint was found: CPGG_MODEL is not set", error)
    assert "checkpoints/cpgg-phantom-small" in error
    assert "Hub repository" in error
    assert "--" not in error
    assert str(tmp_path / "lib") not in error


def test_a_checkpoint_named_by_the_variable_is_used(model, subject, monkeypatch, capsys):
    monkeypatch.setenv("CPGG_MODEL", model)
    assert run("sample-phenotypes", "--out", "table.csv") == 0
    assert run("measure", subject / "cine.nii.gz", "--json") == 0
    assert '"phenotypes"' in capsys.readouterr().out


def test_segmenters_come_from_a_hub_repository_too(model):
    HfApi().create_repo("user/segmenters")
    HfApi().upload_folder(repo_id="user/segmenters", folder_path=model)
    folder = segmenter_path(None, "user/segmenters")
    assert Path(folder).name == "cine_segmenter"
    shipped = load_segmenter(None, model)
    assert torch.equal(load_segmenter(None, "user/segmenters").conv_in.weight, shipped.conv_in.weight)
    with pytest.raises(RequestError, match="user/absent is neither a folder nor a Hub repository that can be read"):
        segmenter_path(None, "user/absent")


def test_a_checkpoint_without_a_segmenter_is_named(model, tmp_path):
    shutil.copytree(model, tmp_path / "bare", ignore=shutil.ignore_patterns("*segmenter"))
    with pytest.raises(RequestError, match="bare has no folder scan_segmenter with a segmenter; use one that has"):
        segmenter_path(None, str(tmp_path / "bare"), scans=True)
    with pytest.raises(RequestError, match="no segmenter at absent; give the folder of one"):
        segmenter_path("absent")


def test_networks_have_the_given_number_type_and_device(model, tmp_path, capsys):
    pipe = load_pipeline(model, "cpu", "bfloat16")
    assert (pipe.device.type, pipe.mar.dtype, pipe.vae.dtype) == ("cpu", torch.bfloat16, torch.bfloat16)
    arguments = ["--model", model, *FEW_STEPS, "--dtype", "bfloat16", "--device", "cpu"]
    assert run("generate", *arguments, "--out", tmp_path / "out") == 0
    assert '"dtype": "bfloat16"' in (tmp_path / "out" / "generation.json").read_text()
    assert run("generate", *arguments[:-3], "float16", "--device", "cpu", "--out", tmp_path / "half") == 1
    assert_one_sentence(capsys, "float16 needs an accelerator, .*; use bfloat16 or float32")
    if not torch.cuda.is_available():
        assert run("sample-phenotypes", "--model", model, "--device", "cuda", "--out", tmp_path / "table.csv") == 1
        assert_one_sentence(capsys, "the device cuda cannot be used .*; give another one")


def test_quiet_prints_neither_progress_nor_notes(model, tmp_path, capfd):
    arguments = ["generate", "--model", model, *FEW_STEPS, "--format", "gif", "--set", "LVSV=60", "--set", "LVCO=6"]
    assert run(*arguments, "--out", tmp_path / "loud") == 0
    loud = capfd.readouterr()
    assert "1 of 1 cines" in loud.err
    assert loud.err.count("note: viewers show at most 50 frames of a GIF or WebP per second") == 1
    assert run(*arguments, "--out", tmp_path / "quiet", "--quiet") == 0
    quiet = capfd.readouterr()
    assert (quiet.out, quiet.err) == (f"wrote 1 cines to {tmp_path / 'quiet'}\n", "")
    assert run(*arguments, "--seed", 2**63 - 1, "--out", tmp_path / "quiet", "--quiet") == 1
    assert capfd.readouterr().err.startswith("error: ")
