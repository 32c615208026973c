"""The 3D-VAE stage (paper, section 2.2): L1 + perceptual + KL + adversarial, and the latents' statistics for the MAR.

A decoder can be refined for an existing MAR: with `init_from` and `freeze_encoder` the latents stay unchanged.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from cpgg_hf.cine import Cine, from_network, to_network
from cpgg_hf.errors import TrainingError
from cpgg_hf.exports.gif import write_gif
from cpgg_hf.metrics import psnr, ssim
from cpgg_hf.models.autoencoder_inflation import inflate
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.models.autoencoder_surgery import add_refiner
from cpgg_hf.models.gaussian import kl_to_standard_normal
from cpgg_hf.training.arguments import argument, operational
from cpgg_hf.training.cine_batches import CineBatches, StreamedCines
from cpgg_hf.training.discriminator import PatchDiscriminator, adaptive_weight, discriminator_loss
from cpgg_hf.training.perceptual import load_perceptual_distance
from cpgg_hf.training.pictures import labelled, save_reconstruction_sheet
from cpgg_hf.training.randomness import StepRandomness
from cpgg_hf.training.stage import Batch, DiscriminatorTraining, Stage, at_least_float32
from cpgg_hf.training.stages.vae_losses import VAELossArguments, reconstruction_terms
from cpgg_hf.training.trained_models import load_autoencoder_2d


@dataclass(kw_only=True)
class VAEArguments(VAELossArguments):
    """Arguments of the 3D-VAE stage."""

    streaming: bool = operational(False, "Stream the data from a folder or the Hub instead of unpacking it first.")
    perceptual_network: str | None = argument(
        None, "'lpips', or a segmenter: its folder or repository.", source="model", public=("lpips",)
    )
    adversarial_start_step: int = argument(1, "First step of the adversarial term (paper: 10001).", minimum=1)
    discriminator_channels: int = argument(
        64, "First channels of the discriminator, a multiple of 4.", minimum=4, maximum=1024, multiple=4
    )
    discriminator_layers: int = argument(
        3, "Layers of the discriminator between first and last.", minimum=1, maximum=6
    )
    latent_noise: float = argument(
        0.0, "Noise added before decoding, in sd of the latents per channel.", minimum=0, maximum=100
    )
    init_from: str | None = argument(None, "Folder or repository of a 3D-VAE to start from.", source="model")
    init_from_2d: str | None = argument(None, "Folder or repository of a 2D AutoencoderKL to inflate.", source="model")
    refiner_channels: int = argument(0, "Channels of a refiner to add to init_from; 0: none.", minimum=0, maximum=1024)
    freeze_encoder: bool = argument(False, "Train only the decoder; latents and their statistics do not change.")
    latent_statistics_cines: int | None = argument(None, "Cines for the latents' statistics; default: all.", minimum=1)


class VAEStage(Stage):
    """Trains `AutoencoderKLCPGG`; after training measures `latents_mean` and `latents_std` and stores them in it."""

    name = "vae"
    arguments_class = VAEArguments
    arguments: VAEArguments
    perceptual_distance: nn.Module | None = None
    discriminator: PatchDiscriminator | None = None

    def load_data(self, accelerator: Accelerator) -> tuple[CineBatches | StreamedCines, str]:
        """The training split; the stage keeps the validation split and the perceptual network."""
        arguments = self.arguments
        check_together(arguments)
        if arguments.perceptual_network is not None:
            distance = load_perceptual_distance(arguments.perceptual_network)
            self.perceptual_distance = distance.to(accelerator.device)
        self.accelerator = accelerator
        source = StreamedCines if arguments.streaming else CineBatches
        with accelerator.main_process_first():  # it unpacks data that is not streamed
            self.training_cines = source(arguments.data, "train")
            self.validation_cines = source(arguments.data, "validation")
        return self.training_cines, self.training_cines.fingerprint()

    def build(self) -> AutoencoderKLCPGG:
        """The VAE configured under `model:`, or the one to start from."""
        arguments = self.arguments
        if arguments.init_from is None:
            network = AutoencoderKLCPGG(**self.model_settings(AutoencoderKLCPGG))
            if arguments.init_from_2d is not None:
                self._inflate(network, arguments.init_from_2d)
            return network
        network = self.load_initial(AutoencoderKLCPGG, arguments.init_from)
        if arguments.refiner_channels > 0:
            if network.decoder.refiner is not None:
                raise TrainingError(f"{arguments.init_from} already has a refiner; leave out refiner_channels.")
            network = add_refiner(network, arguments.refiner_channels)
        if arguments.freeze_encoder:
            for part in (network.encoder, network.quant_conv):
                if part is not None:
                    part.requires_grad_(False)
        return network

    def build_discriminator(self, network: AutoencoderKLCPGG) -> DiscriminatorTraining | None:
        """A patch discriminator if the adversarial term has a weight, with the learning rate of the network."""
        arguments = self.arguments
        if arguments.adversarial_weight == 0:
            return None
        self.discriminator = PatchDiscriminator(
            network.config.out_channels, arguments.discriminator_channels, arguments.discriminator_layers
        ).to(network.dtype)
        return DiscriminatorTraining(
            self.discriminator,
            self._discriminator_loss,
            arguments.learning_rate,
            arguments.adam_betas,
            first_step=arguments.adversarial_start_step - 1,
        )

    def _discriminator_loss(self, discriminator: Any, batch: Batch, _: StepRandomness) -> dict[str, torch.Tensor]:
        """Cines against their reconstructions from this step's `loss`."""
        cines = to_network(batch["cine"]).to(self._reconstruction.dtype)
        return discriminator_loss(discriminator, cines, self._reconstruction)

    def _inflate(self, network: AutoencoderKLCPGG, source: str) -> None:
        """Start from 2D weights; prints the changed and the new tensors, and lists all in the run's folder."""
        try:
            origin = inflate(network, load_autoencoder_2d(source))
        except ValueError as error:
            raise TrainingError(f"init_from_2d is {source}: {error}") from None
        if self.accelerator.is_main_process:
            (Path(self.arguments.output_dir) / "init_from_2d.json").write_text(
                json.dumps(origin, indent=2), encoding="utf-8"
            )
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in origin.items())
        self.accelerator.print(f"tensors from {source}: {counts}")
        for kind in ("summed", "averaged", "new"):
            self.accelerator.print(f"{kind}: {', '.join(origin[kind]) or 'none'}")

    def loss(self, network: AutoencoderKLCPGG, batch: Batch, randomness: StepRandomness) -> dict[str, torch.Tensor]:
        """The weighted sum of the terms of `vae_losses.py`, the adversarial term and the KL, for one posterior sample.

        The adaptive weight of the adversarial term balances it against all others but the KL.
        """
        arguments = self.arguments
        cines = to_network(batch["cine"]).to(network.dtype)
        noise = randomness.normal("latents", 2, *network.latent_size)
        output = network(cines, sample_posterior=True, latent_noise=arguments.latent_noise, noise=noise)
        terms = reconstruction_terms(at_least_float32(output.sample), cines, arguments, self.perceptual_distance)
        if self.discriminator is not None and randomness.step + 1 >= arguments.adversarial_start_step:
            terms |= self._adversarial_terms(network, output.sample, terms["loss"])
        terms["kl"] = kl_per_element(output.latent_dist)
        terms["loss"] = terms["loss"] + arguments.kl_weight * terms["kl"]
        return terms

    def _adversarial_terms(
        self, network: AutoencoderKLCPGG, sample: torch.Tensor, reconstruction_loss: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Minus the mean logit of the reconstructions, and the loss with it; `_discriminator_loss` uses them again."""
        adversarial = -at_least_float32(self.discriminator(sample)).mean()  # type: ignore[misc]
        self._reconstruction = sample.detach()
        if not torch.is_grad_enabled():  # the loop counts FLOPs without gradients, which the weight is made of
            return {"adversarial": adversarial}
        last_layer = network.decoder.conv_out.weight
        balance = adaptive_weight(reconstruction_loss, adversarial, last_layer, len(sample))
        weight = self.arguments.adversarial_weight * balance
        loss = reconstruction_loss + weight * adversarial
        return {"loss": loss, "adversarial": adversarial, "effective_adversarial_weight": weight}

    def validate(self, network: AutoencoderKLCPGG, folder: Path) -> dict[str, float]:
        """PSNR (dB) and SSIM of held-out cines reconstructed from the posterior's mode; a sheet and a GIF of them."""
        pairs: list[tuple[np.ndarray, np.ndarray]] = []
        for batch in self.validation_cines.batches(self.arguments.batch_size, self.arguments.validation_samples):
            cines = to_network(batch["cine"]).to(network.device, network.dtype)
            reconstructions = from_network(network.decode(network.encode(cines).latent_dist.mode()).sample)
            pairs += zip(from_network(cines).cpu().numpy(), reconstructions.cpu().numpy(), strict=True)
        save_reconstruction_sheet(pairs[:4], folder / "reconstructions.png")
        names = ("cine", "reconstruction")
        shown = [
            Cine(pixels=labelled(cine, name), frame_time_ms=20.0)
            for pair in pairs[:8]
            for cine, name in zip(pair, names, strict=True)
        ]
        write_gif(folder / "reconstructions.gif", shown, columns=4)
        references, decoded = zip(*pairs, strict=True)
        return {"psnr": float(psnr(decoded, references).mean()), "ssim": float(ssim(decoded, references).mean())}

    def finish(self, network: AutoencoderKLCPGG) -> None:
        """Store the per-channel mean and sd of the training set's latents in the network's configuration."""
        if self.arguments.freeze_encoder:
            return
        batches = self.training_cines.batches(self.arguments.batch_size, self.arguments.latent_statistics_cines)
        mean, std = latent_statistics(network, batches)
        network.register_to_config(latents_mean=mean, latents_std=std)


def kl_per_element(posterior: Any) -> torch.Tensor:
    """KL(posterior || N(0, I)) averaged over latent elements (diffusers' `kl()` is wrong for 5-D latents)."""
    return kl_to_standard_normal(at_least_float32(posterior.mean), at_least_float32(posterior.logvar)).mean()


@torch.no_grad()
def latent_statistics(network: AutoencoderKLCPGG, batches: Any) -> tuple[list[float], list[float]]:
    """Per-channel mean and sd of the latents of these cines, including the variance of the posterior."""
    count = 0
    first: Any = 0.0
    second: Any = 0.0
    for batch in batches:
        posterior = network.encode(to_network(batch["cine"]).to(network.device, network.dtype)).latent_dist
        mean, var = posterior.mean.double(), posterior.logvar.double().exp()
        axes = (0, 2, 3, 4)
        count += mean[:, 0].numel()
        first = first + mean.sum(axes)
        second = second + (mean.square() + var).sum(axes)
    mean = first / count
    return mean.tolist(), (second / count - mean.square()).sqrt().tolist()


def check_together(arguments: VAEArguments) -> None:
    """Raises `TrainingError` for arguments that contradict each other or need another one."""
    if (arguments.perceptual_weight > 0) != (arguments.perceptual_network is not None):
        raise TrainingError(
            f"perceptual_weight is {arguments.perceptual_weight} and perceptual_network is "
            f"{arguments.perceptual_network}; give both or neither."
        )
    if arguments.init_from is not None and arguments.init_from_2d is not None:
        raise TrainingError("init_from and init_from_2d are both given; leave one of them out.")
    for name in ("freeze_encoder", "refiner_channels"):
        if getattr(arguments, name) and arguments.init_from is None:
            raise TrainingError(f"{name} needs a trained network; pass a 3D-VAE with --init_from.")
