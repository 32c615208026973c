"""The 3D-VAE stage (paper, section 2.2): L1 + perceptual + KL + adversarial, and the latents' statistics for the MAR.

A decoder can be refined under a MAR that exists already: `init_from` a trained VAE with `freeze_encoder`, and its
latents stay what the MAR has learned.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
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
from cpgg_hf.training.arguments import TrainingArguments, check_keys
from cpgg_hf.training.cine_batches import CineBatches
from cpgg_hf.training.discriminator import PatchDiscriminator, adaptive_weight, judge
from cpgg_hf.training.perceptual import load_perceptual_distance
from cpgg_hf.training.pictures import save_reconstruction_sheet
from cpgg_hf.training.randomness import StepRandomness
from cpgg_hf.training.stage import Adversary, Batch, Stage, at_least_float32
from cpgg_hf.training.streamed_cines import StreamedCines
from cpgg_hf.training.trained_models import load_autoencoder_2d, load_trained


@dataclass
class VAEArguments(TrainingArguments):
    """Arguments of the 3D-VAE stage."""

    streaming: bool = field(
        default=False,
        metadata={"help": "Read the data as a stream, from a folder or the hub, without unpacking it first."},
    )
    kl_weight: float = field(
        default=1e-6, metadata={"help": "Weight of the KL term, averaged per latent element (L1: per pixel)."}
    )
    motion_weight: float = field(
        default=0.0, metadata={"help": "Weight of the L1 of the error's change from each frame to the next."}
    )
    detail_weight: float = field(
        default=0.0, metadata={"help": "Weight of the L1 between local strengths of edges and of motion."}
    )
    beat_weight: float = field(
        default=0.0, metadata={"help": "Extra weight of a pixel's error for how much it changes over the beat."}
    )
    perceptual_weight: float = field(
        default=0.0, metadata={"help": "Weight of the distance in the features of perceptual_network (paper: 0.1)."}
    )
    perceptual_network: str | None = field(
        default=None, metadata={"help": "'lpips', or a segmenter: its folder or repository."}
    )
    adversarial_weight: float = field(
        default=0.0, metadata={"help": "Weight of the patch discriminator's judgement (paper: 0.05), times adaptive."}
    )
    adversarial_start_step: int = field(
        default=1, metadata={"help": "The first step with the adversarial term, counted from 1 (paper: 10001)."}
    )
    discriminator_channels: int = field(default=64, metadata={"help": "Channels of the discriminator's first layer."})
    discriminator_layers: int = field(default=3, metadata={"help": "Its layers between the first and the last."})
    latent_noise: float = field(
        default=0.0, metadata={"help": "Noise on the latents before decoding, in deviations of each channel."}
    )
    init_from: str | None = field(default=None, metadata={"help": "Trained 3D-VAE to start from; its configuration."})
    init_from_2d: str | None = field(
        default=None, metadata={"help": "2D AutoencoderKL, a folder or hub repository, to inflate and start from."}
    )
    refiner_channels: int = field(
        default=0, metadata={"help": "With init_from: give its decoder a refiner of so many channels first."}
    )
    freeze_encoder: bool = field(
        default=False, metadata={"help": "Train the decoder alone; latents and their statistics stay as they are."}
    )
    latent_statistics_cines: int | None = field(
        default=None,
        metadata={"help": "Training cines that latents_mean and latents_std are measured on; all if unset."},
    )


class VAEStage(Stage):
    """Trains `AutoencoderKLCPGG`; after training measures `latents_mean` and `latents_std` and stores them in it."""

    name: ClassVar[str] = "vae"
    arguments_class: ClassVar[type[TrainingArguments]] = VAEArguments
    arguments: VAEArguments
    perceptual_distance: nn.Module | None = None
    discriminator: PatchDiscriminator | None = None

    def load_data(self, accelerator: Accelerator) -> tuple[CineBatches | StreamedCines, str]:
        """Cines of the training split; those of the validation split, and the perceptual network, are kept."""
        arguments = self.arguments
        if (arguments.perceptual_weight > 0) != (arguments.perceptual_network is not None):
            raise TrainingError(
                f"perceptual_weight is {arguments.perceptual_weight} and perceptual_network is "
                f"{arguments.perceptual_network}; the term needs both, or leave out both."
            )
        if arguments.perceptual_network is not None:
            distance = load_perceptual_distance(arguments.perceptual_network)
            self.perceptual_distance = distance.to(accelerator.device)
        self.accelerator = accelerator
        source = StreamedCines if self.arguments.streaming else CineBatches
        with accelerator.main_process_first():  # it unpacks what is not streamed
            self.training_cines = source(self.arguments.data, "train")
            self.validation_cines = source(self.arguments.data, "validation")
        return self.training_cines, self.training_cines.fingerprint()

    def build(self) -> AutoencoderKLCPGG:
        """The VAE of the settings under `model:`."""
        arguments = self.arguments
        if arguments.freeze_encoder and arguments.init_from is None:
            raise TrainingError("freeze_encoder needs a trained encoder; pass a 3D-VAE with --init_from.")
        if arguments.init_from is not None and arguments.init_from_2d is not None:
            raise TrainingError("init_from and init_from_2d are both given; a run starts from one of them.")
        if arguments.init_from is None:
            check_keys(arguments.model, list(inspect.signature(AutoencoderKLCPGG.__init__).parameters)[1:], "model")
            network = AutoencoderKLCPGG(**arguments.model)
            if arguments.init_from_2d is not None:
                self._inflate(network, arguments.init_from_2d)
            return network
        if arguments.model:
            raise TrainingError("model settings come from init_from; leave out the section `model:`.")
        network = load_trained(AutoencoderKLCPGG, arguments.init_from)
        if arguments.refiner_channels > 0:
            network = add_refiner(network, arguments.refiner_channels)
        if arguments.freeze_encoder:
            for part in (network.encoder, network.quant_conv):
                if part is not None:
                    part.requires_grad_(False)
        return network

    def build_adversary(self, network: AutoencoderKLCPGG) -> Adversary | None:
        """A patch discriminator, where the adversarial term has a weight; it learns as fast as the network."""
        arguments = self.arguments
        if arguments.adversarial_weight == 0:
            return None
        self.discriminator = PatchDiscriminator(
            network.config.out_channels, arguments.discriminator_channels, arguments.discriminator_layers
        ).to(network.dtype)
        beta1, beta2 = arguments.adam_betas
        first_step = arguments.adversarial_start_step - 1
        return Adversary(self.discriminator, self._judge, arguments.learning_rate, (beta1, beta2), first_step)

    def _judge(
        self,
        discriminator: PatchDiscriminator,
        batch: Batch,
        draws: StepRandomness,  # noqa: ARG002
    ) -> dict[str, torch.Tensor]:
        """Cines against their reconstructions of this step's `loss`."""
        return judge(discriminator, to_network(batch["cine"]).to(self._reconstruction.dtype), self._reconstruction)

    def _inflate(self, network: AutoencoderKLCPGG, source: str) -> None:
        """Start from 2D weights; says which tensors are not theirs as they were, and lists all in the run's folder."""
        try:
            origin = inflate(network, load_autoencoder_2d(source))
        except ValueError as error:
            raise TrainingError(f"init_from_2d is {source}: {error}") from None
        if self.accelerator.is_main_process:
            (Path(self.arguments.output_dir) / "init_from_2d.json").write_text(json.dumps(origin, indent=2))
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in origin.items())
        self.accelerator.print(f"tensors from {source}: {counts}")
        for kind in ("summed", "averaged", "new"):
            self.accelerator.print(f"{kind}: {', '.join(origin[kind]) or 'none'}")

    def loss(self, network: AutoencoderKLCPGG, batch: Batch, draws: StepRandomness) -> dict[str, torch.Tensor]:
        """L1 per pixel + `kl_weight` x KL per latent element, one sample of the posterior a cine.

        `motion_weight` adds the L1 of the error's change from frame to frame: it holds together the blocks of frames
        that a stem draws at once. `detail_weight` adds the L1 between the local strengths of edges and of motion in
        both: where L1 alone would blur or still what it is unsure of, as much detail has to stay. `beat_weight` moves
        the first two from the still chest to the beating heart, whose walls are a few pixels of many.
        `perceptual_weight` and `adversarial_weight` add the terms of `perceptual.py` and `adversarial.py`; the latter
        is measured against all others but the KL.
        """
        cines = to_network(batch["cine"]).to(network.dtype)
        noise = draws.normal("latents", 2, *network.latent_size)
        output = network(cines, sample_posterior=True, latent_noise=self.arguments.latent_noise, noise=noise)
        sample = at_least_float32(output.sample)
        error = sample - cines
        if self.arguments.beat_weight > 0:
            error = error * beat_weights(cines, self.arguments.beat_weight)
        l1 = error.abs().mean()
        kl = kl_per_element(output.latent_dist)
        terms = {"loss": l1, "l1": l1, "kl": kl}
        if self.arguments.motion_weight > 0:
            terms["motion"] = error.diff(dim=2).abs().mean()
            terms["loss"] = terms["loss"] + self.arguments.motion_weight * terms["motion"]
        if self.arguments.detail_weight > 0:
            pairs = zip(local_strengths(sample), local_strengths(cines), strict=True)
            terms["detail"] = torch.stack([F.l1_loss(*pair) for pair in pairs]).sum()
            terms["loss"] = terms["loss"] + self.arguments.detail_weight * terms["detail"]
        if self.perceptual_distance is not None:
            terms["perceptual"] = self.perceptual_distance(sample, cines)
            terms["loss"] = terms["loss"] + self.arguments.perceptual_weight * terms["perceptual"]
        if self.discriminator is not None and draws.step + 1 >= self.arguments.adversarial_start_step:
            terms |= self._adversarial_terms(network, output.sample, terms["loss"])
        terms["loss"] = terms["loss"] + self.arguments.kl_weight * kl
        return terms

    def _adversarial_terms(
        self, network: AutoencoderKLCPGG, sample: torch.Tensor, reconstruction_loss: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """How real the reconstructions look, and the loss with it; they are kept for `_judge`."""
        adversarial = -at_least_float32(self.discriminator(sample)).mean()  # type: ignore[misc]
        self._reconstruction = sample.detach()
        if not torch.is_grad_enabled():  # the loop counts FLOPs without gradients, which the weight is made of
            return {"adversarial": adversarial}
        last_layer = network.decoder.conv_out.weight
        weight = adaptive_weight(reconstruction_loss, adversarial, last_layer, len(sample))
        weight = self.arguments.adversarial_weight * weight
        return {
            "loss": reconstruction_loss + weight * adversarial,
            "adversarial": adversarial,
            "adversarial_weight": weight,
        }

    def validate(self, network: AutoencoderKLCPGG, folder: Path) -> dict[str, float]:
        """PSNR (dB) and SSIM of held-out cines reconstructed from the posterior's mode; a sheet and a GIF of them."""
        sheet: list[tuple[torch.Tensor, torch.Tensor]] = []
        for batch in self.validation_cines.batches(self.arguments.batch_size, self.arguments.validation_samples):
            cines = to_network(batch["cine"]).to(network.device, network.dtype)
            reconstructions = from_network(network.decode(network.encode(cines).latent_dist.mode()).sample)
            sheet += zip(from_network(cines).cpu(), reconstructions.cpu(), strict=True)
        save_reconstruction_sheet(sheet[:4], folder / "reconstructions.png")
        references, decoded = ([cine.float().numpy() for cine in column] for column in zip(*sheet, strict=True))
        pairs = [cine for pair in zip(references[:8], decoded[:8], strict=True) for cine in pair]
        write_gif(folder / "reconstructions.gif", [Cine(pixels=one, frame_time_ms=20.0) for one in pairs], columns=4)
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


def local_strengths(cines: torch.Tensor, window: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Root mean square, in windows of each frame, of the spatial gradient and of the change to the next frame.

    Args:
        cines: (B, C, T, H, W).
        window: its height and width in pixels; a window at the end may be smaller.

    Returns:
        (B, C, T, h, w) and (B, C, T - 1, h, w) with h = ceil(H / window), w = ceil(W / window).
    """
    gradient = F.pad(cines.diff(dim=3), (0, 0, 0, 1)).square() + F.pad(cines.diff(dim=4), (0, 1)).square()
    # The slope of a root is infinite at 0.
    edges, motion = (
        (F.avg_pool3d(square, (1, window, window), ceil_mode=True) + 1e-6).sqrt()
        for square in (gradient, cines.diff(dim=2).square())
    )
    return edges, motion


def beat_weights(cines: torch.Tensor, strength: float, window: int = 5) -> torch.Tensor:
    """Weights of pixels, 1 on average in each cine: (1 + strength s) / (1 + strength).

    s is the standard deviation of a pixel over the frames, averaged over a window around it (a wall moves at its edges
    only) and divided by its mean over the picture.

    Args:
        cines: (B, C, T, H, W).
        strength: 0 weighs all pixels alike; far above 1, a pixel that never changes weighs nothing.
        window: odd height and width in pixels of the average.

    Returns:
        (B, C, 1, H, W).
    """
    change = F.avg_pool2d(cines.std(dim=2), window, stride=1, padding=window // 2, count_include_pad=False)
    change = change + 1e-6  # where nothing changes at all, all weights are 1
    relative = (change / change.mean((-2, -1), keepdim=True)).unsqueeze(2)
    return (1.0 + strength * relative) / (1.0 + strength)


@torch.no_grad()
def latent_statistics(network: AutoencoderKLCPGG, batches: Any) -> tuple[list[float], list[float]]:
    """Per-channel mean and sd of the latents that the posterior of these cines gives, its own variance included."""
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
