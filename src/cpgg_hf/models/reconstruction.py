"""Cines encoded and decoded again by the 3D-VAE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cpgg_hf.cine import Cine, from_network

if TYPE_CHECKING:
    from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG


@torch.no_grad()
def reconstruct(vae: AutoencoderKLCPGG, cine: Cine) -> Cine:
    """The cine decoded from the mean of the posterior, float32 in [0, 1]."""
    sample = torch.from_numpy(cine.unit).to(vae.device, vae.dtype)[None, None] * 2 - 1
    return cine.with_pixels(from_network(vae(sample).sample)[0].cpu().numpy())
