"""A decoder refined under a MAR that exists: latents stay, the picture changes, the cached latents stay valid."""

import pytest
import torch
from accelerate import Accelerator

from cpgg_hf.cine import to_network
from cpgg_hf.errors import TrainingError
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.training.cine_batches import CineBatches
from cpgg_hf.training.latent_cache import moments_fingerprint
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


def test_contradicting_settings_are_refused(settings, vae):
    with pytest.raises(TrainingError, match="init_from"):
        run(VAEStage, TINY_VAE, settings, freeze_encoder=True)
    with pytest.raises(TrainingError, match="init_from"):
        run(VAEStage, TINY_VAE, settings, init_from=str(vae))
