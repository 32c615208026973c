"""The phenotype VAE stage (paper, section 2.1): the joint distribution of the 82 phenotypes, on one process."""

import hashlib
import inspect
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import Dataset, StackDataset

from cpgg_hf.errors import TrainingError, brief
from cpgg_hf.models.phenotype_vae import ROWS_PER_COMPONENT, CPGGPhenotypeVAE
from cpgg_hf.phenotypes import NAMES, read_csv
from cpgg_hf.training.arguments import TrainingArguments, argument
from cpgg_hf.training.cine_batches import CineBatches
from cpgg_hf.training.randomness import StepRandomness
from cpgg_hf.training.stage import Batch, Stage

# Fitted on the training split, not settings.
_FITTED = ("phenotype_mean", "phenotype_sd", "coordinate_mean", "coordinate_sd", "sampler_fitted")


@dataclass(kw_only=True)
class PhenotypeVAEArguments(TrainingArguments):
    """Arguments of the phenotype VAE stage. `data` may be a CSV of phenotypes instead of a cine data set."""

    validation_data: str | None = argument(None, "CSV of held-out phenotypes, if data is a CSV.", source="dataset")


class PhenotypeVAEStage(Stage):
    """Trains `CPGGPhenotypeVAE`; the scaler of the training split stays in its configuration, for the MAR too."""

    name = "phenotype_vae"
    arguments_class = PhenotypeVAEArguments
    mixes_samples = True  # batch normalisation
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
        rows = StackDataset(phenotypes=torch.from_numpy(self.training_phenotypes))  # type: ignore[arg-type]
        return rows, hashlib.sha256(self.training_phenotypes.tobytes()).hexdigest()

    def build(self) -> CPGGPhenotypeVAE:
        """The VAE configured under `model:`, with the scaler of the training split."""
        settings = {"num_mixture_components": self._num_components(), **self.model_settings(CPGGPhenotypeVAE, _FITTED)}
        try:
            return CPGGPhenotypeVAE.from_phenotypes(self.training_phenotypes, **settings)
        except ValueError as error:
            raise TrainingError(f"cannot train on {self.arguments.data}: {error}") from None

    def _num_components(self) -> int:
        """The constructor's default, or fewer for few rows: the sampler is fitted too late to refuse them."""
        rows, given = len(self.training_phenotypes), self.arguments.model.get("num_mixture_components")
        possible = rows // ROWS_PER_COMPONENT
        if possible < (needed := given if type(given) is int else 1):
            remedy = f"set model.num_mixture_components to at most {possible}" if possible else "prepare more subjects"
            raise TrainingError(
                f"the training split has {rows} rows, but {needed} mixture component(s) need "
                f"{needed * ROWS_PER_COMPONENT}; {remedy}."
            )
        default = inspect.signature(CPGGPhenotypeVAE).parameters["num_mixture_components"].default
        return min(default, possible)

    def loss(self, network: CPGGPhenotypeVAE, batch: Batch, randomness: StepRandomness) -> dict[str, torch.Tensor]:
        """Mean squared error + weighted KL of standardised phenotypes; the network holds the weight."""
        output = network(phenotypes=batch["phenotypes"], noise=randomness.normal("latents", network.config.latent_dim))
        return {"loss": output.loss, "reconstruction": output.reconstruction_loss, "kl": output.kl_loss}

    def validate(self, network: CPGGPhenotypeVAE, folder: Path) -> dict[str, float]:  # noqa: ARG002
        """The loss terms on all held-out rows."""
        rows = torch.from_numpy(self.validation_phenotypes).to(network.device)
        randomness = StepRandomness(self.arguments.seed, 0, 0, len(rows), network.device)
        return {name: float(term) for name, term in self.loss(network, {"phenotypes": rows}, randomness).items()}

    def finish(self, network: CPGGPhenotypeVAE) -> None:
        """Fit the network's sampler; the published network has no such step."""
        try:
            network.fit_sampler(self.training_phenotypes, seed=self.arguments.seed)
        except ValueError as error:
            raise TrainingError(
                f"the sampler cannot be fitted ({brief(error)}); start a new run with a smaller "
                "model.num_mixture_components."
            ) from error

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
                "rows in total), but the phenotype VAE learns from complete rows; remove incomplete ones."
            )
        return phenotypes
