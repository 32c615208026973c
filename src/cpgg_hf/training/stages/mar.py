"""The MAR stage (paper, section 2.2): masked tokens of cached latents, conditioned on phenotypes, diffusion loss."""

import hashlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import Dataset

from cpgg_hf.cine import Cine
from cpgg_hf.dataset import cine_of, load_cines
from cpgg_hf.errors import TrainingError
from cpgg_hf.exports.gif import write_gif
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
from cpgg_hf.models.phenotype_vae import CPGGPhenotypeVAE
from cpgg_hf.phenotypes import NAMES
from cpgg_hf.segmentation.segmenter import CineSegmenter
from cpgg_hf.training.arguments import TrainingArguments, argument, check_keys, operational
from cpgg_hf.training.cine_batches import CineBatches
from cpgg_hf.training.evaluation import evaluate_cines, generate_cines
from cpgg_hf.training.latent_cache import encode_split
from cpgg_hf.training.pictures import labelled
from cpgg_hf.training.randomness import StepRandomness
from cpgg_hf.training.stage import Batch, Stage
from cpgg_hf.training.trained_models import add_lora, load_trained


@dataclass(kw_only=True)
class MARArguments(TrainingArguments):
    """Arguments of the MAR stage."""

    vae: str = operational(help="Folder or repository of the trained 3D-VAE.", source="model")
    phenotype_vae: str | None = operational(
        None, "Phenotype VAE (folder or repository) whose scaler to use; default: fit one.", source="model"
    )
    init_from: str | None = argument(None, "Folder or repository of a trained MAR to start from.", source="model")
    lora_rank: int = argument(
        0, "Train only a LoRA of this rank on init_from; 0: all weights.", minimum=0, maximum=1024
    )
    latent_cache: str | None = operational(None, "Folder of cached latents; default: in output_dir.", source="none")
    generated_cines: int = operational(0, "Cines that a validation generates from held-out phenotypes.", minimum=0)
    generated_inference_steps: int = operational(
        25, "Diffusion steps per token of these cines.", minimum=1, maximum=1000
    )
    segmenter: str | None = operational(None, "Folder or repository of a segmenter, for their R2.", source="model")
    missing_probability: float = argument(0.0, "Share of samples that lose phenotypes.", minimum=0, maximum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lora_rank > 0 and self.init_from is None:
            raise TrainingError(f"lora_rank is {self.lora_rank} without a trained MAR; pass one with --init_from.")


class MARStage(Stage):
    """Trains `CPGGMARModel` on latents sampled from cached moments, standardised by the statistics of the VAE."""

    name = "mar"
    arguments_class = MARArguments
    arguments: MARArguments

    def load_data(self, accelerator: Accelerator) -> tuple[Dataset, str]:
        """The cached latents of the training split, encoded first where the cache lacks them."""
        arguments, self.accelerator = self.arguments, accelerator
        vae = load_trained(AutoencoderKLCPGG, arguments.vae).to(accelerator.device).eval()
        if vae.config.latents_mean is None or vae.config.latents_std is None:
            raise TrainingError(
                f"the VAE {arguments.vae} has no latents_mean and latents_std in its configuration; use the output of "
                "train_vae.py."
            )
        self.latents_mean, self.latents_std = (
            torch.tensor(statistics, device=accelerator.device).view(1, -1, 1, 1, 1)
            for statistics in (vae.config.latents_mean, vae.config.latents_std)
        )

        with accelerator.main_process_first():
            training_cines = CineBatches(arguments.data, "train")
            validation_cines = CineBatches(arguments.data, "validation")
        # Before the encoding, which takes long: whatever may be refused.
        if arguments.generated_cines > 0:
            self.held_out = self._held_out_hearts(len(validation_cines))
        self.segmenter = None if arguments.segmenter is None else load_trained(CineSegmenter, arguments.segmenter)
        if arguments.phenotype_vae is None:
            mean, sd = fit_scaler(training_cines.phenotypes())
        else:
            mean, sd = read_scaler(arguments.phenotype_vae)
        cache = Path(arguments.latent_cache or Path(arguments.output_dir) / "latents")
        self.training_moments, fingerprint = encode_split(accelerator, vae, training_cines, "train", cache)
        self.validation_moments, _ = encode_split(accelerator, vae, validation_cines, "validation", cache)
        if arguments.generated_cines > 0:
            self.vae = vae.cpu()
        self.scaler, scaler = {"phenotype_mean": mean, "phenotype_sd": sd}, np.array([mean, sd])
        return self.training_moments, hashlib.sha256(fingerprint.encode() + scaler.tobytes()).hexdigest()

    def build(self) -> CPGGMARModel:
        """The MAR configured under `model:`, for latents of the VAE's shape, with the phenotype scaler."""
        settings = self.arguments.model
        channels, *size = self.training_moments.latent_shape
        given: dict[str, Any] = {"latent_channels": channels, "latent_size": tuple(size)}
        if self.arguments.init_from is not None:
            network = self.load_initial(CPGGMARModel, self.arguments.init_from)
            for key, expected in {**given, **self.scaler}.items():
                if list(np.ravel(getattr(network.config, key))) != list(np.ravel(expected)):
                    raise TrainingError(
                        f"{key} of {self.arguments.init_from} does not match the VAEs; retrain without init_from."
                    )
            if self.arguments.lora_rank > 0:
                add_lora(network, self.arguments.lora_rank, self.accelerator)
            return network
        check_keys(settings, [entry.name for entry in dataclass_fields(CPGGMARConfig)], "model")
        for key, expected in given.items():
            value = settings.get(key, expected)
            if (tuple(value) if isinstance(value, list) else value) != expected:
                raise TrainingError(
                    f"model.{key} is {value}, the latents of {self.arguments.vae} have {expected}; correct or omit it."
                )
        return CPGGMARModel(CPGGMARConfig(**{**settings, **given, **self.scaler}))

    def loss(self, network: CPGGMARModel, batch: Batch, randomness: StepRandomness) -> dict[str, torch.Tensor]:
        """MSE + VLB of masked tokens' noise (flow matching: MSE of the velocity), for one latent sample per cine.

        The share of masked tokens is the same for all samples of a step; which tokens are masked differs by sample.
        """
        config, phenotypes = network.config, batch["phenotypes"]
        if network.training and self.arguments.missing_probability > 0:
            phenotypes = hide_phenotypes(phenotypes, self.arguments.missing_probability, randomness)
        # On the CPU, where the number of masked tokens is known without waiting for the device.
        order = randomness.on("cpu").uniform("order", config.num_tokens)
        mask = network.mask_of(randomness.of_step("mask ratio"), order)
        tokens = (config.timesteps_per_token, int(mask[0].sum()))
        drop_condition = randomness.uniform("drop condition") < config.condition_dropout if network.training else None
        if config.head_type == "flow_matching":
            timesteps = config.num_train_timesteps * randomness.uniform("timesteps", *tokens)
        else:
            timesteps = randomness.integers("timesteps", config.num_train_timesteps, *tokens)
        with _attention_for_training(network):
            output = network(
                latents=self._sample_latents(batch, randomness, network.dtype),
                phenotypes=phenotypes,
                mask=mask,
                drop_condition=drop_condition,
                noise=randomness.normal("noise", *tokens, config.token_dim),
                timesteps=timesteps,
            )
        terms = {"loss": output.loss, "mse": output.loss_mse, "vlb": output.loss_vlb}
        return {name: term for name, term in terms.items() if term is not None}

    def validate(self, network: CPGGMARModel, folder: Path) -> dict[str, float]:
        """The loss terms on held-out latents, each batch weighted by its size and with its own mask ratio.

        With `generated_cines` also the figures of `evaluate_cines`, and a GIF of pairs: the reference cine of a heart,
        and the cine generated from its phenotypes.
        """
        count = min(self.arguments.validation_samples, len(self.validation_moments))
        sums: dict[str, float] = {}
        for first in range(0, count, self.arguments.batch_size):
            indices = range(first, min(first + self.arguments.batch_size, count))
            batch = {name: part.to(network.device) for name, part in self.validation_moments[indices].items()}
            randomness = StepRandomness(self.arguments.seed, first, first, len(indices), network.device)
            for name, term in self.loss(network, batch, randomness).items():
                sums[name] = sums.get(name, 0.0) + float(term) * len(indices)
        figures = {name: total / count for name, total in sums.items()}
        if self.arguments.generated_cines > 0:
            figures |= self._generate(network, folder)
        return figures

    def _generate(self, network: CPGGMARModel, folder: Path) -> dict[str, float]:
        arguments, hearts = self.arguments, self.held_out[: self.arguments.generated_cines]
        steps, vae = arguments.generated_inference_steps, self.vae.to(network.device)
        cines = generate_cines(network, vae, hearts, steps, arguments.batch_size, arguments.seed)
        self.vae.cpu()
        frame_time_ms = float(np.mean([heart.frame_time_ms for heart in self.held_out]))
        shown = [
            Cine(pixels=labelled(cine.unit, name), frame_time_ms=frame_time_ms)
            for pair in list(zip(hearts, cines, strict=True))[:16]
            for cine, name in zip(pair, ("reference", "generated"), strict=True)
        ]
        write_gif(folder / "generated.gif", shown, columns=8)
        return evaluate_cines(cines, self.held_out, self.segmenter)

    def _held_out_hearts(self, available: int) -> list[Cine]:
        count = 2 * self.arguments.generated_cines
        if count > available:
            raise TrainingError(
                f"generated_cines is {self.arguments.generated_cines}, which needs {count} held-out cines (half of "
                f"them for the floor), but the validation split has {available}; generate fewer."
            )
        return [cine_of(row) for row in load_cines(self.arguments.data, "validation").select(range(count))]

    def _sample_latents(self, batch: Batch, randomness: StepRandomness, dtype: torch.dtype) -> torch.Tensor:
        mean, logvar = (batch[name].to(torch.promote_types(dtype, torch.float32)) for name in ("mean", "logvar"))
        drawn = mean + (0.5 * logvar).exp() * randomness.normal("latents", *mean.shape[1:])
        return (drawn - self.latents_mean) / self.latents_std


def _attention_for_training(network: CPGGMARModel) -> AbstractContextManager:
    """Plain attention on a CPU: for few tokens the backward pass of the fused one is slower (0.70 s against 0.64 s).

    Not with gradient checkpointing, which recomputes activations in the backward pass, outside this context.
    """
    plain = network.device.type == "cpu" and not network.is_gradient_checkpointing
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


def hide_phenotypes(phenotypes: torch.Tensor, probability: float, randomness: StepRandomness) -> torch.Tensor:
    """Set a subset of the values of each row of (B, 82) to NaN with `probability`; its share is uniform in (0, 1)."""
    chosen, share = randomness.uniform("hidden rows", 2, 1).unbind(1)
    hidden = (chosen < probability) & (randomness.uniform("hidden values", phenotypes.shape[1]) < share)
    return phenotypes.masked_fill(hidden, float("nan"))


def fit_scaler(phenotypes: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and sd (82 each, in physical units) of the values in (N, 82) that are not missing.

    Raises:
        TrainingError: a phenotype is missing in every row or constant, so it cannot be standardised.
    """
    given = np.ma.masked_invalid(phenotypes)
    mean, sd = given.mean(axis=0), given.std(axis=0)
    useless = [name for name, value in zip(NAMES, np.ma.filled(sd, 0.0), strict=True) if not value > 0]
    if useless:
        raise TrainingError(
            f"no usable values of {', '.join(useless)} (constant or missing); use training data in which every "
            "phenotype varies."
        )
    return mean.tolist(), sd.tolist()


def read_scaler(phenotype_vae: str) -> tuple[list[float], list[float]]:
    """`phenotype_mean` and `phenotype_sd` of a trained phenotype VAE (folder or repository); TrainingError if none."""
    config = load_trained(CPGGPhenotypeVAE, phenotype_vae).config
    if not config.phenotype_mean or not config.phenotype_sd:
        raise TrainingError(
            f"{phenotype_vae} has no phenotype_mean and phenotype_sd in its configuration; use the output of "
            "train_phenotype_vae.py."
        )
    return config.phenotype_mean, config.phenotype_sd
