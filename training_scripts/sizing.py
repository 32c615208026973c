"""Estimated compute and memory of a training step: FLOPs, and bytes of weights, optimizer and activations.

The network runs on tensors without storage (`FakeTensorMode`), so that large configurations can be counted anywhere.
FLOPs are those of matrix products, attentions and convolutions, forward and backward; activations are the tensors that
autograd saves under bf16 autocast. Workspaces, memory fragmentation and communication buffers are not counted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
from cpgg_hf.models.phenotype_vae import CPGGPhenotypeVAE
from cpgg_hf.phantom import LABELS
from cpgg_hf.segmentation.segmenter import CineSegmenter

# Bytes per parameter in float32: weight, gradient, AdamW's two moments, moving average.
BYTES_PER_PARAMETER = 5 * 4
# Passes over them per step: the weight is read three times and written, the others are read and written.
_PASSES_OVER_PARAMETERS = 12


@dataclass(frozen=True)
class StageSize:
    """Size and cost of one network.

    Attributes:
        num_parameters: number of parameters.
        flops_per_sample: FLOPs of a training step per sample, forward and backward.
        activation_bytes_per_sample: bytes that autograd keeps from the forward to the backward pass.
    """

    num_parameters: int
    flops_per_sample: float
    activation_bytes_per_sample: float

    def memory_bytes(self, batch_size: int) -> float:
        """Peak memory of a device with `batch_size` samples per micro-batch."""
        return self.num_parameters * BYTES_PER_PARAMETER + batch_size * self.activation_bytes_per_sample

    def traffic_bytes(self, num_samples: int) -> float:
        """Least memory traffic of a step: activations written and read once, parameters and their moments."""
        return self.num_parameters * 4 * _PASSES_OVER_PARAMETERS + num_samples * 2 * self.activation_bytes_per_sample


def size_of_vae(**config) -> StageSize:
    """The 3D-VAE configured under `model:`."""

    def build_and_run(batch_size: int) -> tuple[torch.nn.Module, Callable[[], torch.Tensor]]:
        network = AutoencoderKLCPGG(**config)
        cines = torch.zeros(batch_size, network.config.in_channels, *network.config.sample_size)
        noise = torch.zeros(batch_size, 2, *network.latent_size)
        return network, lambda: (network(cines, sample_posterior=True, noise=noise).sample - cines).abs().mean()

    return _count(build_and_run)


def size_of_mar(config: CPGGMARConfig) -> StageSize:
    """The MAR with the average number of masked tokens."""
    shares = [CPGGMARModel.num_masked(config, (index + 0.5) / 64) for index in range(64)]
    num_masked = round(sum(shares) / len(shares))

    def build_and_run(batch_size: int) -> tuple[torch.nn.Module, Callable[[], torch.Tensor]]:
        network = CPGGMARModel(config)
        tokens = torch.zeros(batch_size, config.num_tokens, config.token_dim)
        visible, masked = torch.arange(config.num_tokens).expand(batch_size, -1).tensor_split([-num_masked], dim=1)
        phenotypes = torch.zeros(batch_size, config.num_phenotypes)
        timesteps = torch.zeros(batch_size, config.timesteps_per_token, num_masked, dtype=torch.long)
        noise = torch.zeros(*timesteps.shape, config.token_dim)

        def run() -> torch.Tensor:
            condition = network.embed_phenotypes(phenotypes)
            z = network.decode(network.encode(tokens, visible, condition), visible, masked)
            return network.diffusion_head(noise, timesteps, z.unsqueeze(1)).float().square().mean()

        return network, run

    return _count(build_and_run)


def size_of_phenotype_vae(**config) -> StageSize:
    """The phenotype VAE configured under `model:`."""

    def build_and_run(batch_size: int) -> tuple[torch.nn.Module, Callable[[], torch.Tensor]]:
        network = CPGGPhenotypeVAE(**config)
        standardised = torch.zeros(batch_size, 82)

        def run() -> torch.Tensor:
            mean, logvar = network.encode(standardised)
            return network.decode(mean + logvar.exp()).float().square().mean()

        return network, run

    return _count(build_and_run, batch_size=2)


def size_of_segmenter(**config) -> StageSize:
    """The segmenter configured under `model:`; a sample is one frame of 96 x 96 with its context frames."""

    def build_and_run(batch_size: int) -> tuple[torch.nn.Module, Callable[[], torch.Tensor]]:
        network = CineSegmenter(**config)
        frames = torch.zeros(batch_size, len(network.config.context_frames), 96, 96)
        target = torch.zeros(batch_size, len(LABELS), 96, 96)
        return network, lambda: torch.nn.functional.cross_entropy(network(frames).float(), target)

    return _count(build_and_run)


def _count(
    build_and_run: Callable[[int], tuple[torch.nn.Module, Callable[[], torch.Tensor]]], batch_size: int = 1
) -> StageSize:
    saved: dict[int, int] = {}

    def record(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        return tensor

    with FakeTensorMode():
        network, run = build_and_run(batch_size)
        network.train()
        own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
        with FlopCounterMode(display=False) as counter:
            hooks = torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor)
            with hooks, torch.autocast("cpu", torch.bfloat16):
                loss = run()
            loss.backward()
    activations = sum(size for storage, size in saved.items() if storage not in own)
    return StageSize(
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        flops_per_sample=counter.get_total_flops() / batch_size,
        activation_bytes_per_sample=activations / batch_size,
    )
