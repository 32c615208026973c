"""A decoder refined under a MAR that exists: latents stay, the picture changes, the cached latents stay valid."""

import pytest
import torch
from accelerate import Accelerator

from cpgg_hf.cine import to_network
from cpgg_hf.errors import TrainingError
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.training.cine_batches import CineBatches
from cpgg_hf.training.latent_cache import moments_fingerprint
from cpgg_hf.training.randomness import StepRandomness
from cpgg_hf.training.stages.vae import VAEStage

from ..conftest import TINY_VAE, run


def test_a_frozen_encoder_keeps_latents_and_their_statistics(settings, vae, data, tmp_path):
    run(VAEStage, {}, settings, init_from=str(vae), freeze_encoder=True)
    before = AutoencoderKLCPGG.from_pretrained(vae).eval()
    after = AutoencoderKLCPGG.from_pretrained(tmp_path / "run" / "model").eval()
    cines = CineBatches(str(data), "validation")
    network_input = to_network(cines[[0, 1]]["cine"])
    with torch.no_grad():
        latents = before.encode(network_input).latent_dist.mode()
        torch.testing.assert_close(after.encode(network_input).latent_dist.mode(), latents, rtol=0, atol=0)
        assert not torch.equal(after.decode(latents).sample, before.decode(latents).sample)
    assert after.config.latents_mean == before.config.latents_mean
    assert moments_fingerprint(after, cines, "no") == moments_fingerprint(before, cines, "no")
    Accelerator().free_memory()


def test_the_motion_and_detail_terms_of_an_error_that_grows_evenly(settings):
    class Ramp(torch.nn.Module):
        """Reconstructs a cine with a ramp along time that it lacks: the error changes by 0.5 a frame."""

        dtype, latent_size = torch.float32, (2, 1, 1, 1)

        def forward(self, cines, sample_posterior, latent_noise, noise):
            ramp = 0.5 * torch.arange(cines.shape[2], dtype=torch.float32).view(1, 1, -1, 1, 1)
            latents = torch.zeros(len(cines), 2, 1, 1, 1)
            posterior = type("Posterior", (), {"mean": latents, "logvar": latents})
            return type("Output", (), {"sample": cines + ramp, "latent_dist": posterior})

    arguments = VAEStage.arguments_class(**settings, motion_weight=2.0, detail_weight=3.0, kl_weight=0.0)
    batch = {"cine": torch.zeros(2, 4, 16, 16, dtype=torch.uint8)}
    terms = VAEStage(arguments).loss(Ramp(), batch, StepRandomness(0, 0, 0, 2, "cpu"))
    assert terms["motion"].item() == pytest.approx(0.5)
    # The plane has no edges in either; motion is 0.5 in one and none in the other.
    assert terms["detail"].item() == pytest.approx(0.5, rel=0.01)
    assert terms["loss"].item() == pytest.approx(0.75 + 2.0 * 0.5 + 3.0 * 0.5, rel=0.01)


def test_contradicting_settings_are_refused(settings, vae):
    with pytest.raises(TrainingError, match="init_from"):
        run(VAEStage, TINY_VAE, settings, freeze_encoder=True)
    with pytest.raises(TrainingError, match="init_from"):
        run(VAEStage, TINY_VAE, settings, init_from=str(vae))
