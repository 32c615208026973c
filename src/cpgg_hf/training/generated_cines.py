"""Cines that a MAR in training generates from held-out phenotypes: Frechet distance and controllability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cpgg_hf.cine import Cine, from_network
from cpgg_hf.measure import measure_cines
from cpgg_hf.metrics import RandomFeatureNetwork, controllability, extract_features, frechet_with_floor
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
from cpgg_hf.models.scheduling_cpgg_ddpm import scheduler_of_head
from cpgg_hf.segmentation.segmenter import CineSegmenter
from cpgg_hf.shards import derive_seed

_DECODING_STEPS = 16


@dataclass(frozen=True)
class HeldOutHearts:
    """Reference cines with their phenotypes and geometry.

    Attributes:
        cines: (N, T, H, W) uint8.
        phenotypes: (N, 82) float32 in physical units, NaN = missing.
        spacing_mm: (N,) pixel sizes.
        frame_time_ms: (N,) frame times.
    """

    cines: np.ndarray
    phenotypes: torch.Tensor
    spacing_mm: np.ndarray
    frame_time_ms: np.ndarray


def generate_cines(
    mar: CPGGMARModel,
    vae: AutoencoderKLCPGG,
    phenotypes: torch.Tensor,
    num_inference_steps: int,
    batch_size: int,
    seed: int,
) -> np.ndarray:
    """Cines (N, T, H, W) float32 in [0, 1] from phenotypes (N, 82), without guidance; cine i depends on (seed, i)."""
    scheduler = scheduler_of_head(mar.config.head_type, mar.config.num_train_timesteps)
    decoding_steps = min(_DECODING_STEPS, mar.config.num_tokens)
    cines = []
    for indices in torch.arange(len(phenotypes)).split(batch_size):
        generators = [torch.Generator().manual_seed(derive_seed(seed, "generated", int(index))) for index in indices]
        latents = mar.generate_latents(
            phenotypes[indices].to(mar.device), scheduler, decoding_steps, num_inference_steps, generators=generators
        )
        for sample in vae.unstandardise(latents).split(1):
            cines.append(from_network(vae.decode(sample.to(vae.dtype)).sample).cpu())
    return torch.cat(cines).numpy()


def evaluate_cines(generated: np.ndarray, hearts: HeldOutHearts, segmenter: CineSegmenter | None) -> dict[str, float]:
    """Frechet distance of N generated cines with its floor, and the R2 of measured phenotypes.

    Args:
        generated: (N, T, H, W) in [0, 1], from the phenotypes of the first N hearts.
        hearts: at least 2 N: half to compare with, half for the floor.
        segmenter: measures the cines; None for no R2.

    Returns:
        `frechet`, `frechet_floor` (between reference cines: the smallest distance to expect from this few), and with
        a segmenter `r2_<phenotype>` of each measurable phenotype that varies.
    """
    network = RandomFeatureNetwork()
    reference = extract_features(hearts.cines, network)
    frechet = frechet_with_floor(extract_features(generated, network), reference)
    figures = {"frechet": frechet.distance, "frechet_floor": frechet.floor}
    if segmenter is not None:
        count = len(generated)
        geometry = zip(generated, hearts.spacing_mm, hearts.frame_time_ms, strict=False)
        measured = measure_cines(
            (Cine(pixels=pixels, spacing_mm=mm, frame_time_ms=ms) for pixels, mm, ms in geometry), segmenter
        )
        table = controllability(hearts.phenotypes[:count].double().numpy(), measured, num_resamples=1)
        r2 = table.loc[table["measurable"], "r2"].dropna()
        figures |= {f"r2_{name}": float(value) for name, value in r2.items()}
    return figures
