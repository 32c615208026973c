"""The phenotype scaler: mean and sd of the training split in physical units, stored in model configurations."""

from __future__ import annotations

import numpy as np

from cpgg_hf.errors import TrainingError
from cpgg_hf.phenotypes import NAMES


def fit_scaler(phenotypes: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and sd (82 each) of the values in (N, 82) that are not missing.

    Raises:
        TrainingError: a phenotype is missing in every row or constant, so it cannot be standardised.
    """
    given = np.isfinite(phenotypes)
    counts = given.sum(axis=0)
    mean = np.where(given, phenotypes, 0.0).sum(axis=0) / np.maximum(counts, 1)
    sd = np.sqrt(np.where(given, (phenotypes - mean) ** 2, 0.0).sum(axis=0) / np.maximum(counts, 1))
    useless = [name for name, value in zip(NAMES, sd, strict=True) if not value > 0]
    if useless:
        raise TrainingError(
            f"{', '.join(useless)} never vary in the training split; train on data with every phenotype."
        )
    return mean.tolist(), sd.tolist()


def read_scaler(phenotype_vae: str) -> tuple[list[float], list[float]]:
    """`phenotype_mean` and `phenotype_sd` of a trained phenotype VAE (a folder or repository)."""
    from cpgg_hf.models.phenotype_vae import CPGGPhenotypeVAE

    config = CPGGPhenotypeVAE.load_config(phenotype_vae)
    if not config.get("phenotype_mean") or not config.get("phenotype_sd"):
        raise TrainingError(
            f"{phenotype_vae} has no phenotype_mean and phenotype_sd in its configuration; use the output of "
            "train_phenotype_vae.py."
        )
    return config["phenotype_mean"], config["phenotype_sd"]
