"""Figures of a validation: Frechet distance and controllability of cines that a MAR in training generates."""

from collections.abc import Sequence

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


def generate_cines(
    mar: CPGGMARModel,
    vae: AutoencoderKLCPGG,
    hearts: Sequence[Cine],
    num_inference_steps: int,
    batch_size: int,
    seed: int,
) -> list[Cine]:
    """The hearts with pixels in [0, 1] that are generated from their phenotypes, without guidance.

    Cine i depends on (seed, i).
    """
    scheduler = scheduler_of_head(mar.config.head_type, mar.config.num_train_timesteps)
    decoding_steps = min(_DECODING_STEPS, mar.config.num_tokens)
    phenotypes = torch.from_numpy(np.array([heart.phenotypes for heart in hearts], dtype=np.float32))
    cines = []
    for indices in torch.arange(len(hearts)).split(batch_size):
        generators = [torch.Generator().manual_seed(derive_seed(seed, "generated", int(index))) for index in indices]
        latents = mar.generate_latents(
            phenotypes[indices].to(mar.device), scheduler, decoding_steps, num_inference_steps, generators=generators
        )
        for index, sample in zip(indices.tolist(), vae.unstandardise(latents).split(1), strict=True):
            pixels = from_network(vae.decode(sample.to(vae.dtype)).sample)[0].cpu().numpy()
            cines.append(hearts[index].with_pixels(pixels))
    return cines


def evaluate_cines(
    generated: Sequence[Cine], references: Sequence[Cine], segmenter: CineSegmenter | None
) -> dict[str, float]:
    """Frechet distance of N generated cines with its floor, and the R2 of measured phenotypes.

    Args:
        generated: N cines with the phenotypes that they were generated from.
        references: at least 2 N cines: half to compare with, half for the floor.
        segmenter: measures the cines; None for no R2.

    Returns:
        `frechet`, `frechet_floor` (between reference cines: the smallest distance to expect from this few), and with
        a segmenter `r2_<phenotype>` of each measurable phenotype that varies.
    """
    network = RandomFeatureNetwork()
    reference_features = extract_features(references, network)
    frechet = frechet_with_floor(extract_features(generated, network), reference_features)
    figures = {"frechet": frechet.distance, "frechet_floor": frechet.floor}
    if segmenter is not None:
        r2 = measured_r2(generated, segmenter)
        figures |= {f"r2_{name}": value for name, value in r2.items() if np.isfinite(value)}
    return figures


def measured_r2(cines: Sequence[Cine], segmenter: CineSegmenter) -> dict[str, float]:
    """R2 = 1 - SSE / SST of the phenotypes measured in cines against their own.

    One value for each measurable phenotype and for the septal and lateral wall; NaN where it does not vary
    or fewer than 3 cines could be measured.
    """
    phenotypes = np.array([cine.phenotypes for cine in cines])
    table = controllability(phenotypes, measure_cines(cines, segmenter), num_resamples=1, min_cines=3)
    return table.loc[table["measurable"], "r2"].astype(float).to_dict()
