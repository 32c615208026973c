"""A small data set on disk (4 x 16 x 16 noise around a brightness), tiny networks, settings that tiny runs share."""

import json

import datasets
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from cpgg_hf.cine import Cine
from cpgg_hf.dataset import CineWriter, write_description
from cpgg_hf.phantom import sample_phenotypes
from cpgg_hf.phenotypes import write_csv
from cpgg_hf.training.loop import train

SHAPE = (4, 16, 16)
TINY_VAE = {
    "block_out_channels": [4, 4],
    "temporal_factors": [2],
    "layers_per_block": 1,
    "latent_channels": 2,
    "norm_num_groups": 2,
    "sample_size": list(SHAPE),
    "mid_block_add_attention": False,
}
TINY_MAR = {
    "patch_size": [1, 4, 4],
    "encoder_width": 16,
    "encoder_depth": 1,
    "decoder_width": 16,
    "decoder_depth": 1,
    "num_attention_heads": 2,
    "num_condition_tokens": 1,
    "head_width": 16,
    "head_depth": 1,
}
TINY_PHENOTYPE_VAE = {"hidden_dims": [8], "latent_dim": 3, "num_mixture_components": 1}
TIMING = {"seconds", "samples_per_second", "tokens_per_second", "model_tflops", "waiting_share", "peak_memory_gb"}


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")
    yield
    datasets.config.HF_DATASETS_CACHE = before


def write_data(folder, seed=0, num_train=24, num_validation=6, shape=SHAPE, policy="phantom", change=None):
    """A data set of noise; `change` is the index of a training cine of which one pixel is another."""
    generator = np.random.default_rng(seed)
    for split, count in (("train", num_train), ("validation", num_validation)):
        with CineWriter(folder, split) as writer:
            for index in range(count):
                brightness = generator.integers(0, 200)  # what a tiny network can learn
                cine = (brightness + generator.integers(0, 50, shape)).astype(np.uint8)
                cine[-1, -1, -1] += split == "train" and index == change
                writer.add(
                    Cine(
                        pixels=cine,
                        frame_time_ms=20.0,
                        subject=f"{split}-{index}",
                        source="noise",
                        data_policy=policy,
                        phenotypes=generator.normal(100.0, 15.0, 82),
                    )
                )
    write_description(folder)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("cines"))


def save_vae(folder, seed=0):
    from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG

    torch.manual_seed(seed)
    vae = AutoencoderKLCPGG(**TINY_VAE, latents_mean=[0.1, -0.2], latents_std=[0.5, 2.0])
    vae.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def vae(tmp_path_factory):
    return save_vae(tmp_path_factory.mktemp("vae"))


@pytest.fixture(scope="session")
def phenotype_tables(tmp_path_factory):
    """Settings that name two CSV files of possible hearts."""
    folder = tmp_path_factory.mktemp("phenotypes")
    write_csv(sample_phenotypes(100, seed=0), folder / "train.csv")
    write_csv(sample_phenotypes(20, seed=1), folder / "held_out.csv")
    return {"data": str(folder / "train.csv"), "validation_data": str(folder / "held_out.csv")}


@pytest.fixture
def settings(data, tmp_path):
    return {
        "data": str(data),
        "output_dir": str(tmp_path / "run"),
        "max_train_steps": 6,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "lr_warmup_steps": 2,
        "max_grad_norm": 1.0,
        "ema_decay": 0.9,
        "weight_decay": 0.01,
        "logging_steps": 2,
        "validation_steps": 3,
        "validation_samples": 4,
        "checkpointing_steps": 3,
        "seed": 3,
    }


def run(stage_class, model, settings, **changes):
    arguments = stage_class.arguments_class(**{**settings, **changes})
    arguments.model = dict(model)
    AcceleratorState._reset_state(reset_partial_state=True)  # each run is a process of its own elsewhere
    return train(stage_class(arguments))


def weights(folder):
    return load_file(next(folder.glob("*.safetensors")))


def log_of(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMING} for line in lines]


def assert_same_run(first, second):
    """The same weights, moving averages and log, to the last bit."""
    for part in ("model", "ema"):
        if not (first / part).exists():
            continue
        expected, given = weights(first / part), weights(second / part)
        assert expected.keys() == given.keys()
        for name, tensor in expected.items():
            assert torch.equal(tensor, given[name]), f"{part}: {name}"
    assert log_of(first) == log_of(second)
