"""The phenotype VAE stage (paper, section 2.2): the joint distribution of the 82 phenotypes, on one process."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import Dataset

from cpgg_hf.errors import TrainingError
from cpgg_hf.models.phenotype_vae import CPGGPhenotypeVAE
from cpgg_hf.phenotypes import NAMES, read_csv
from cpgg_hf.training.arguments import TrainingArguments, check_keys
from cpgg_hf.training.cine_batches import CineBatches
from cpgg_hf.training.randomness import StepRandomness
from cpgg_hf.training.stage import Batch, Stage

# The training split determines these, not a setting.
_FITTED = ("phenotype_mean", "phenotype_sd", "coordinate_mean", "coordinate_sd", "sampler_fitted")


@dataclass
class PhenotypeVAEArguments(TrainingArguments):
    """Arguments of the phenotype VAE stage. `data` may be a CSV of phenotypes instead of a cine data set."""

    validation_data: str | None = field(
        default=None, metadata={"help": "CSV of held-out phenotypes; needed where data is a CSV."}
    )


class PhenotypeRows(Dataset):
    """`rows[[3, 17]]` gives phenotypes (2, 82) float64 in physical units."""

    def __init__(self, phenotypes: np.ndarray) -> None:
        self.phenotypes = torch.from_numpy(phenotypes)

    def __len__(self) -> int:
        return len(self.phenotypes)

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        return {"phenotypes": self.phenotypes[list(indices)]}


class PhenotypeVAEStage(Stage):
    """Trains `CPGGPhenotypeVAE`; the scaler of the training split stays in its configuration, for the MAR too."""

    name: ClassVar[str] = "phenotype_vae"
    arguments_class: ClassVar[type[TrainingArguments]] = PhenotypeVAEArguments
    mixes_samples: ClassVar[bool] = True  # batch normalisation
    arguments: PhenotypeVAEArguments

    def load_data(self, accelerator: Accelerator) -> tuple[Dataset, str]:
        """Complete rows of phenotypes of both splits, from a cine data set or from two CSV files."""
        if accelerator.num_processes > 1:
            raise TrainingError(
                f"the phenotype VAE trains on one process (its batch statistics are not shared), given "
                f"{accelerator.num_processes}; launch it without --num_processes."
            )
        self.training_phenotypes = self._read("train")
        self.validation_phenotypes = self._read("validation")
        return PhenotypeRows(self.training_phenotypes), hashlib.sha256(self.training_phenotypes.tobytes()).hexdigest()

    def build(self) -> CPGGPhenotypeVAE:
        """The VAE of the settings under `model:`, with the training split's scaler inside."""
        settings = self.arguments.model
        valid = set(inspect.signature(CPGGPhenotypeVAE.__init__).parameters)
        check_keys(settings, valid.difference(_FITTED, ("self",)), "model")
        try:
            return CPGGPhenotypeVAE.from_phenotypes(self.training_phenotypes, **settings)
        except ValueError as error:
            raise TrainingError(f"{self.arguments.data} cannot be trained on: {error}") from None

    def loss(self, network: CPGGPhenotypeVAE, batch: Batch, draws: StepRandomness) -> dict[str, torch.Tensor]:
        """Mean squared error + weighted KL of standardised phenotypes; the weight is the network's own setting."""
        output = network(phenotypes=batch["phenotypes"], noise=draws.normal("latents", network.config.latent_dim))
        return {"loss": output.loss, "reconstruction": output.reconstruction_loss, "kl": output.kl_loss}

    def validate(self, network: CPGGPhenotypeVAE, folder: Path) -> dict[str, float]:  # noqa: ARG002
        """The loss terms on all held-out rows."""
        rows = torch.from_numpy(self.validation_phenotypes).to(network.device)
        draws = StepRandomness(self.arguments.seed, 0, 0, len(rows), network.device)
        return {name: float(term) for name, term in self.loss(network, {"phenotypes": rows}, draws).items()}

    def finish(self, network: CPGGPhenotypeVAE) -> None:
        """Fit what the network samples with; the published network has no such step."""
        network.fit_sampler(self.training_phenotypes, seed=self.arguments.seed)

    def _read(self, split: str) -> np.ndarray:
        data = self.arguments.data if split == "train" else self.arguments.validation_data or self.arguments.data
        if data.endswith(".csv"):
            if split != "train" and self.arguments.validation_data is None:
                raise TrainingError(f"{data} is a CSV without splits; pass held-out rows with --validation_data.")
            phenotypes = read_csv(data)
        else:
            phenotypes = CineBatches(data, split).phenotypes()
        missing = ~np.isfinite(phenotypes)
        if missing.any():
            row, column = np.argwhere(missing)[0]
            raise TrainingError(
                f"{data} ({split}) lacks {NAMES[column]} in row {row} ({int(missing.any(axis=1).sum())} incomplete "
                "rows in all); the phenotype VAE learns from complete rows: leave the others out."
            )
        return phenotypes
