"""The 3D-VAE stage: its loss, its figures, and the latent statistics that the MAR relies on."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.distributions import Normal, kl_divergence

from cpgg_hf.dataset import decode_cine, load_cines
from cpgg_hf.errors import TrainingError
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.training.cine_batches import CineBatches
from cpgg_hf.training.pictures import STRIP
from cpgg_hf.training.stages.vae import VAEStage, kl_per_element

from ..conftest import TINY_VAE, log_of, run


def encode(network, data, split):
    cines = np.stack([decode_cine(row) for row in load_cines(data, split)])
    with torch.no_grad():
        return cines, network.encode(torch.from_numpy(cines)[:, None] / 127.5 - 1.0).latent_dist


def test_saved_latent_statistics_are_those_of_the_training_set(settings, data, tmp_path):
    run(VAEStage, TINY_VAE, settings)
    for part in ("model", "ema"):
        network = AutoencoderKLCPGG.from_pretrained(tmp_path / "run" / part)
        _, posterior = encode(network, data, "train")
        torch.manual_seed(0)
        draws = torch.stack([posterior.sample() for _ in range(200)]).double()
        mean, std = draws.mean((0, 1, 3, 4, 5)), draws.std((0, 1, 3, 4, 5))
        np.testing.assert_allclose(network.config.latents_mean, mean, atol=0.01 * float(std.max()))
        np.testing.assert_allclose(network.config.latents_std, std, rtol=0.01)


def test_validation_figures_are_those_of_the_reconstructions(settings, data, tmp_path):
    run(VAEStage, TINY_VAE, settings, validation_samples=6)
    network = AutoencoderKLCPGG.from_pretrained(tmp_path / "run" / "ema")
    cines, posterior = encode(network, data, "validation")
    with torch.no_grad():
        given = (network.decode(posterior.mode()).sample[:, 0].numpy() / 2 + 0.5).clip(0, 1)
    psnr = np.mean([-10 * np.log10(np.mean((a - b / 255.0) ** 2)) for a, b in zip(given, cines, strict=True)])
    line = log_of(tmp_path / "run")[-1]
    assert line["validation_psnr"] == pytest.approx(psnr, abs=1e-3)
    assert -1 < line["validation_ssim"] < 1
    sheet = np.asarray(Image.open(tmp_path / "run" / "validation" / "0000006" / "reconstructions.png"))
    row = 16 + STRIP
    np.testing.assert_array_equal(sheet[STRIP:row, :16], cines[0][0])
    labels = [sheet[first : first + STRIP] for first in range(0, 3 * row, row)]
    assert all(label.max() > 128 for label in labels)
    assert not np.array_equal(labels[0], labels[1])
    with Image.open(tmp_path / "run" / "validation" / "0000006" / "reconstructions.gif") as film:
        assert film.height == 2 * (3 * row + 2 * 2)  # 6 pairs, two a row, with gaps, twice as large


def test_kl_is_that_of_the_textbook(data):
    _, posterior = encode(AutoencoderKLCPGG(**TINY_VAE), data, "validation")
    expected = kl_divergence(Normal(posterior.mean, posterior.std), Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(kl_per_element(posterior), expected)


def test_training_lowers_the_loss_in_bf16_too(settings, tmp_path):
    run(VAEStage, TINY_VAE, settings, mixed_precision="bf16", max_train_steps=40)
    losses = [line["loss"] for line in log_of(tmp_path / "run") if "loss" in line]
    assert losses[-1] < 0.7 * losses[0]
    config = json.loads((tmp_path / "run" / "ema" / "config.json").read_text())
    assert config["_class_name"] == "AutoencoderKLCPGG"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"refiner_channels": 8}, "refiner_channels needs a trained network; pass a 3D-VAE with --init_from"),
        ({"freeze_encoder": True}, "freeze_encoder needs a trained network"),
        ({"perceptual_weight": 0.1}, "perceptual_network is None; give both or neither"),
        ({"init_from": "a", "init_from_2d": "b"}, "both given; leave one of them out"),
    ],
)
def test_arguments_that_need_each_other_are_checked_before_data_is_loaded(settings, changes, message):
    with pytest.raises(TrainingError, match=message):
        run(VAEStage, TINY_VAE, settings, **{**changes, "data": "nowhere"})


def test_an_unknown_model_key_is_refused(settings):
    with pytest.raises(TrainingError, match="model has no key 'latent_chanels'; the nearest is 'latent_channels'"):
        run(VAEStage, {"latent_chanels": 4}, settings)


def test_cines_stay_on_disk(data):
    cines = CineBatches(str(data), "train")
    assert cines.rows.cache_files, "the data set must be memory-mapped from arrow files"
    rows = load_cines(data, "train")
    batch = cines[[5, 2]]
    assert batch["cine"].dtype == torch.uint8
    np.testing.assert_array_equal(batch["cine"][1], decode_cine(rows[2]))
    np.testing.assert_array_equal(cines.phenotypes()[5], rows[5]["phenotypes"])
    np.testing.assert_allclose(batch["phenotypes"][0], rows[5]["phenotypes"], rtol=1e-6)
