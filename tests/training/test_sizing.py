"""SIZING.md is what its script writes, and what it counts is what the loop counts and what formulas say."""

import importlib
from pathlib import Path

import pytest
import torch

from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
from cpgg_hf.training.throughput import count_flops

from .conftest import TINY_MAR, TINY_VAE

SCRIPTS = Path(__file__).parents[2] / "training_scripts"


@pytest.fixture(autouse=True)
def _scripts_are_modules(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)


@pytest.mark.parametrize(
    "preset",
    [
        "phantom_small",
        pytest.param("phantom_base", marks=pytest.mark.slow),
        pytest.param("ukb_paper", marks=pytest.mark.slow),
    ],
)
def test_the_page_is_what_its_script_writes(preset, monkeypatch):
    module = importlib.import_module("size_stages")
    monkeypatch.setattr(module, "PRESETS", {preset: module.PRESETS[preset]})
    written = module.PAGE.read_text()
    head, section = module.page().split(f"\n## {preset}\n")
    assert written.startswith(head)
    assert section.strip() in written


def test_a_step_has_three_times_the_flops_of_the_forward_pass_that_the_loop_counts():
    config = CPGGMARConfig(**TINY_MAR, latent_channels=2, latent_size=(2, 8, 8))
    counted = importlib.import_module("sizing").size_of_mar(config)
    network = CPGGMARModel(config).eval()
    assert counted.num_parameters == sum(parameter.numel() for parameter in network.parameters())
    masked = [network.num_masked(config, (index + 0.5) / 64) for index in range(64)]
    ratio = masked.index(round(sum(masked) / 64)) / 64
    mask = network.mask_of(ratio, torch.rand(1, config.num_tokens))
    latents, phenotypes = torch.zeros(1, 2, 2, 8, 8), torch.zeros(1, 82)
    forward = count_flops(lambda: network(latents, phenotypes, mask=mask))
    # The first layers need no gradient of their input, and the loop's masked count may differ by one token.
    assert counted.flops_per_sample == pytest.approx(3 * forward, rel=0.15)


def test_memory_is_twenty_bytes_per_parameter_plus_activations():
    counted = importlib.import_module("sizing").size_of_vae(**TINY_VAE)
    one, two = counted.memory_bytes(1), counted.memory_bytes(2)
    assert two - one == counted.activation_bytes_per_sample > 1024 * 4 * 2
    assert one - counted.activation_bytes_per_sample == 20 * counted.num_parameters
