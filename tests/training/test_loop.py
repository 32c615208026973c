"""What a user relies on when a run is interrupted, resumed or refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from cpgg_hf.training.arguments import parse_arguments
from cpgg_hf.training.errors import TrainingError
from cpgg_hf.training.loop import launch, train
from cpgg_hf.training.vae_stage import VAEArguments, VAEStage

from .conftest import TINY_VAE, write_data

TIMING = {"seconds", "samples_per_second"}


def run(stage_class, model, settings, **changes):
    arguments = stage_class.arguments_class(**{**settings, **changes})
    arguments.model = dict(model)
    return train(stage_class(arguments))


def weights(folder):
    return load_file(next(folder.glob("*.safetensors")))


def log_of(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMING} for line in lines]


def assert_same_run(first, second):
    for part in ("model", "ema"):
        expected, given = weights(first / part), weights(second / part)
        assert expected.keys() == given.keys()
        for name, tensor in expected.items():
            assert torch.equal(tensor, given[name]), f"{part}: {name}"
    assert log_of(first) == log_of(second)


def test_a_resumed_run_equals_an_undisturbed_one(settings, tmp_path):
    run(VAEStage, TINY_VAE, settings, output_dir=str(tmp_path / "undisturbed"))
    state = run(VAEStage, TINY_VAE, settings, max_seconds=0.0)
    assert state.step == 1
    state = run(VAEStage, TINY_VAE, settings, resume_from_checkpoint="latest", max_seconds=0.0)
    assert state.step == 2
    run(VAEStage, TINY_VAE, settings, resume_from_checkpoint="latest")
    assert_same_run(tmp_path / "undisturbed", tmp_path / "run")
