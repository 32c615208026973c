"""`--init_from_2d`: a run that starts from inflated 2D weights."""

import json

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from cpgg_hf.errors import TrainingError
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.training.stages.vae import VAEStage

from ..conftest import TINY_VAE, run

WITH_ATTENTION = {**TINY_VAE, "mid_block_add_attention": True}


@pytest.fixture
def flat(tmp_path):
    """An RGB autoencoder with latents of another width, saved under the older names of its attention."""
    torch.manual_seed(0)
    network = AutoencoderKL(
        in_channels=3, out_channels=3, block_out_channels=(4, 4), layers_per_block=1, latent_channels=4,
        norm_num_groups=2, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    network.save_pretrained(tmp_path / "flat")
    file = tmp_path / "flat" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        tensors = {name.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): t for name, t in tensors.items()}
    save_file(tensors, file, {"format": "pt"})
    return network, file


def test_a_run_starts_from_inflated_weights_and_lists_them(flat, settings, tmp_path, capsys):
    network, file = flat
    run(
        VAEStage, WITH_ATTENTION, settings, init_from_2d=str(file.parent), learning_rate=0.0, weight_decay=0.0,
        max_train_steps=1,
    )  # fmt: skip
    trained = AutoencoderKLCPGG.from_pretrained(tmp_path / "run" / "model")
    kernel = trained.encoder.conv_in.weight
    torch.testing.assert_close(kernel[:, 0, 1], network.encoder.conv_in.weight.sum(1))
    assert kernel[:, :, [0, 2]].abs().max() == 0
    query = "encoder.mid_block.attentions.0.to_q.weight"
    torch.testing.assert_close(trained.get_parameter(query), network.get_parameter(query))
    listed = json.loads((tmp_path / "run" / "init_from_2d.json").read_text())
    assert sorted(name for names in listed.values() for name in names) == sorted(trained.state_dict())
    printed = capsys.readouterr().out
    assert "summed: encoder.conv_in.weight\naveraged: decoder.conv_out.weight, decoder.conv_out.bias\nnew: " in printed
    assert all(name in printed for name in listed["new"])


def test_weights_that_do_not_fit_are_refused(flat, settings, tmp_path):
    _, file = flat
    refused = [
        ({"init_from": "elsewhere"}, TINY_VAE, "init_from and init_from_2d are both given"),
        ({}, TINY_VAE, "mid_block_add_attention is True in the 2D autoencoder but False in the 3D one; set mid_block"),
        ({"init_from_2d": str(tmp_path / "nothing")}, TINY_VAE, "cannot load an AutoencoderKL from"),
    ]
    for changes, model, message in refused:
        with pytest.raises(TrainingError, match=message):
            run(VAEStage, model, {**settings, "init_from_2d": str(file.parent), **changes})
    tensors = load_file(file)
    del tensors["encoder.conv_in.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(TrainingError, match=r"lacks 1 tensors of its AutoencoderKL, such as 'encoder.conv_in.weight'"):
        run(VAEStage, WITH_ATTENTION, settings, init_from_2d=str(file.parent))
