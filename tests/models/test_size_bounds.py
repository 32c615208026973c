"""Configurations whose networks would fill the memory are refused at once, by whichever way they come."""

import json

import pytest
from tiny_checkpoint import save_tiny_checkpoint

from cpgg_hf import CPGGPipeline
from cpgg_hf.errors import CheckpointError


@pytest.mark.parametrize(
    ("file", "name"),
    [
        *(("mar/config.json", name) for name in ("encoder_depth", "decoder_width", "head_depth", "mlp_ratio")),
        ("phenotype_vae/config.json", "num_mixture_components"),
        ("vae/config.json", "layers_per_block"),
        ("model_index.json", "micro_batch_size"),
        ("scheduler/scheduler_config.json", "num_train_timesteps"),
    ],
)
def test_a_checkpoint_with_such_a_size_names_its_file(tmp_path, file, name):
    folder = save_tiny_checkpoint(tmp_path / "tiny")
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, name: 10**9}))
    with pytest.raises(CheckpointError, match=rf"{file} .*{name} can be at most"):
        CPGGPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    ("file", "name"), [("phenotype_vae/config.json", "coordinate_sd"), ("vae/config.json", "latents_std")]
)
def test_numbers_that_are_not_finite_are_refused(tmp_path, file, name):
    folder = save_tiny_checkpoint(tmp_path / "tiny")
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, name: [float("inf"), 1.0]}))
    with pytest.raises(CheckpointError, match=rf"{name} must be finite"):
        CPGGPipeline.from_pretrained(folder)
