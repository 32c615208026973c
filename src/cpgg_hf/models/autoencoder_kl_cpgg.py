"""The 3D-VAE of CPGG (arXiv 2505.03426, section 2.2): Stable Diffusion's VAE with its 2D convolutions made 3D.

Modules carry the names of diffusers' `AutoencoderKL`, and each kernel is the 2D one with a time axis in front, so that
2D weights can be inflated key by key. The paper's configuration is the default: a cine of 1 x 50 x 96 x 96 becomes
latents of 16 x 25 x 12 x 12. One file on purpose: it is what a hub repository holds beside the weights.
"""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.activations import get_activation
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution as _DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from diffusers.utils.torch_utils import randn_tensor
from torch import nn

from cpgg_hf.hub.mixin import HubPolicyMixin

_NORM_EPS = 1e-6


class DiagonalGaussianDistribution(_DiagonalGaussianDistribution):
    """The posterior of a cine, computed in float32 where the network has less.

    diffusers' own class sums the divergence over dimensions 1 to 3, which leaves the width of 5-D latents unsummed.

    Args:
        parameters (`torch.Tensor`): mean and log-variance, (B, 2 C, T', H', W').
        deterministic (`bool`, defaults to `False`): whether the variance is taken as zero.
    """

    def __init__(self, parameters: torch.Tensor, deterministic: bool = False):
        super().__init__(parameters.to(torch.promote_types(parameters.dtype, torch.float32)), deterministic)
        self.dtype = parameters.dtype

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draws latents (B, C, T', H', W') in the dtype of the parameters."""
        return super().sample(generator).to(self.dtype)

    def mode(self) -> torch.Tensor:
        """Returns the mean (B, C, T', H', W') in the dtype of the parameters."""
        return self.mean.to(self.dtype)

    def kl(self, other: _DiagonalGaussianDistribution | None = None) -> torch.Tensor:
        """Returns the divergence from `other` (default: the standard normal) in nats, summed a cine: (B,)."""
        if self.deterministic:
            return self.mean.new_zeros(self.mean.shape[0])
        if other is None:
            elements = self.mean.square() + self.var - 1.0 - self.logvar
        else:
            elements = (self.mean - other.mean).square() / other.var + self.var / other.var - 1.0
            elements = elements - self.logvar + other.logvar
        return 0.5 * elements.flatten(1).sum(1)


@dataclass
class AutoencoderKLCPGGOutput(DecoderOutput):
    """What `AutoencoderKLCPGG.forward` returns: all that a training loss needs, in one call (DDP hooks need that).

    Args:
        sample (`torch.Tensor`): the reconstructed cine, (B, C, T, H, W).
        latent_dist (`DiagonalGaussianDistribution`): the posterior that the latents came from.
    """

    latent_dist: DiagonalGaussianDistribution | None = None


def patchify(cine: torch.Tensor, patch_size: tuple[int, int, int]) -> torch.Tensor:
    """Space to depth: (B, C, T, H, W) -> (B, C t h w, T / t, H / h, W / w) for patches of (t, h, w)."""
    batch_size, channels, *size = cine.shape
    (t, h, w), (frames, height, width) = patch_size, (n // p for n, p in zip(size, patch_size, strict=True))
    patches = cine.reshape(batch_size, channels, frames, t, height, h, width, w)
    return patches.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(batch_size, -1, frames, height, width)


def unpatchify(patches: torch.Tensor, patch_size: tuple[int, int, int]) -> torch.Tensor:
    """Depth to space, the inverse of `patchify`."""
    batch_size, _, frames, height, width = patches.shape
    t, h, w = patch_size
    cine = patches.reshape(batch_size, -1, t, h, w, frames, height, width).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return cine.reshape(batch_size, -1, frames * t, height * h, width * w)


class ResnetBlock3D(nn.Module):
    """Norm, activation, convolution, twice, with a residual connection: (B, C, T, H, W) -> (B, C_out, T, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, norm_num_groups: int, act_fn: str):
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_num_groups, in_channels, eps=_NORM_EPS)
        self.conv1 = nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1)
        self.norm2 = nn.GroupNorm(norm_num_groups, out_channels, eps=_NORM_EPS)
        self.conv2 = nn.Conv3d(out_channels, out_channels, kernel_size=3, padding=1)
        self.nonlinearity = get_activation(act_fn)
        self.conv_shortcut = None
        if in_channels != out_channels:
            self.conv_shortcut = nn.Conv3d(in_channels, out_channels, kernel_size=1)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        residual = hidden_states if self.conv_shortcut is None else self.conv_shortcut(hidden_states)
        hidden_states = self.conv1(self.nonlinearity(self.norm1(hidden_states)))
        hidden_states = self.conv2(self.nonlinearity(self.norm2(hidden_states)))
        return residual + hidden_states


class Downsample3D(nn.Module):
    """A strided convolution that halves height and width and divides time by `temporal_factor`.

    Where an axis shrinks, zeros are appended at its end only, as in `AutoencoderKL`; the kernel spans at least
    `temporal_factor` frames so that none is skipped.
    """

    def __init__(self, channels: int, temporal_factor: int):
        super().__init__()
        frames = max(3, temporal_factor)
        self.padding = (0, 1, 0, 1) + ((1, 1) if temporal_factor == 1 else (0, frames - temporal_factor))
        self.conv = nn.Conv3d(channels, channels, kernel_size=(frames, 3, 3), stride=(temporal_factor, 2, 2))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(hidden_states, self.padding))


class Upsample3D(nn.Module):
    """Nearest-neighbour upsampling by (temporal_factor, 2, 2), then a convolution."""

    def __init__(self, channels: int, temporal_factor: int):
        super().__init__()
        self.scale_factor = (float(temporal_factor), 2.0, 2.0)
        self.conv = nn.Conv3d(channels, channels, kernel_size=3, padding=1)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.conv(F.interpolate(hidden_states, scale_factor=self.scale_factor, mode="nearest"))


class DownEncoderBlock3D(nn.Module):
    """One level of the encoder: residual blocks, then downsampling unless `temporal_factor` is None."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_layers: int,
        temporal_factor: int | None,
        norm_num_groups: int,
        act_fn: str,
    ):
        super().__init__()
        channels = [in_channels] + [out_channels] * num_layers
        self.resnets = nn.ModuleList(
            ResnetBlock3D(*pair, norm_num_groups, act_fn) for pair in itertools.pairwise(channels)
        )
        self.downsamplers = None
        if temporal_factor is not None:
            self.downsamplers = nn.ModuleList([Downsample3D(out_channels, temporal_factor)])

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        for resnet in self.resnets:
            hidden_states = resnet(hidden_states)
        for downsampler in self.downsamplers or ():
            hidden_states = downsampler(hidden_states)
        return hidden_states


class UpDecoderBlock3D(nn.Module):
    """One level of the decoder: residual blocks, then upsampling unless `temporal_factor` is None."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_layers: int,
        temporal_factor: int | None,
        norm_num_groups: int,
        act_fn: str,
    ):
        super().__init__()
        channels = [in_channels] + [out_channels] * num_layers
        self.resnets = nn.ModuleList(
            ResnetBlock3D(*pair, norm_num_groups, act_fn) for pair in itertools.pairwise(channels)
        )
        self.upsamplers = None
        if temporal_factor is not None:
            self.upsamplers = nn.ModuleList([Upsample3D(out_channels, temporal_factor)])

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        for resnet in self.resnets:
            hidden_states = resnet(hidden_states)
        for upsampler in self.upsamplers or ():
            hidden_states = upsampler(hidden_states)
        return hidden_states


class MidBlock3D(nn.Module):
    """Two residual blocks with, between them, one-head attention over all positions of all frames."""

    def __init__(self, channels: int, norm_num_groups: int, act_fn: str, add_attention: bool):
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock3D(channels, channels, norm_num_groups, act_fn) for _ in range(2))
        self.attentions = nn.ModuleList()
        if add_attention:
            self.attentions.append(
                Attention(
                    channels,
                    heads=1,
                    dim_head=channels,
                    bias=True,
                    eps=_NORM_EPS,
                    norm_num_groups=norm_num_groups,
                    residual_connection=True,
                    upcast_softmax=True,
                    _from_deprecated_attn_block=True,
                )
            )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = self.resnets[0](hidden_states)
        for attention in self.attentions:
            positions = hidden_states.flatten(2).transpose(1, 2)  # (B, T H W, C)
            hidden_states = attention(positions).transpose(1, 2).unflatten(2, hidden_states.shape[2:])
        return self.resnets[1](hidden_states)


class Refiner(nn.Module):
    """A correction to a cine, (B, in_channels, T / t, H / h, W / w) -> (B, out_channels, T, H, W).

    A stem's patches of several frames are drawn at once, so motion would jump where they meet. Here time is unfolded
    first, and a residual block sees every frame. It starts as nothing, so that a trained decoder can be given one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        refiner_channels: int,
        norm_num_groups: int,
        act_fn: str,
        patch_size: tuple[int, int, int],
    ):
        super().__init__()
        t, h, w = patch_size
        self.time_patch, self.space_patch = (t, 1, 1), (1, h, w)
        self.conv_in = nn.Conv3d(in_channels, refiner_channels * t, kernel_size=1)
        self.resnet = ResnetBlock3D(refiner_channels, refiner_channels, norm_num_groups, act_fn)
        self.conv_act: nn.Module = get_activation(act_fn)
        self.conv_out = nn.Conv3d(refiner_channels, out_channels * h * w, kernel_size=3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = self.resnet(unpatchify(self.conv_in(hidden_states), self.time_patch))
        return unpatchify(self.conv_out(self.conv_act(hidden_states)), self.space_patch)


class Encoder(nn.Module):
    """Cine (B, in_channels, T, H, W) to hidden states (B, out_channels, T', H', W'); see `AutoencoderKLCPGG`."""

    _gradient_checkpointing_func: Callable[..., torch.Tensor]  # set by `enable_gradient_checkpointing`

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        block_out_channels: tuple[int, ...],
        temporal_factors: tuple[int, ...],
        layers_per_block: int,
        norm_num_groups: int,
        act_fn: str,
        mid_block_add_attention: bool,
    ):
        super().__init__()
        first, last = block_out_channels[0], block_out_channels[-1]
        self.conv_in = nn.Conv3d(in_channels, first, kernel_size=3, padding=1)
        self.down_blocks = nn.ModuleList()
        channels = first
        levels = zip(block_out_channels, (*temporal_factors, None), strict=True)
        for block_channels, factor in levels:
            self.down_blocks.append(
                DownEncoderBlock3D(channels, block_channels, layers_per_block, factor, norm_num_groups, act_fn)
            )
            channels = block_channels
        self.mid_block = MidBlock3D(last, norm_num_groups, act_fn, mid_block_add_attention)
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, last, eps=_NORM_EPS)
        self.conv_act: nn.Module = get_activation(act_fn)
        self.conv_out = nn.Conv3d(last, out_channels, kernel_size=3, padding=1)
        self.gradient_checkpointing = False

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        hidden_states = self.conv_in(sample)
        for block in (*self.down_blocks, self.mid_block):
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states = self._gradient_checkpointing_func(block, hidden_states)
            else:
                hidden_states = block(hidden_states)
        return self.conv_out(self.conv_act(self.conv_norm_out(hidden_states)))


class Decoder(nn.Module):
    """Latents (B, in_channels, T', H', W') to a cine (B, out_channels, T, H, W); see `AutoencoderKLCPGG`.

    After the last level each position holds a patch of frames, rows and columns, drawn at once. The refiner, where
    there is one, adds a correction computed at every frame.
    """

    _gradient_checkpointing_func: Callable[..., torch.Tensor]  # set by `enable_gradient_checkpointing`

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        block_out_channels: tuple[int, ...],
        temporal_factors: tuple[int, ...],
        layers_per_block: int,
        norm_num_groups: int,
        act_fn: str,
        mid_block_add_attention: bool,
        patch_size: tuple[int, int, int],
        refiner_channels: int,
    ):
        super().__init__()
        self.patch_size = patch_size
        first, last = block_out_channels[0], block_out_channels[-1]
        self.conv_in = nn.Conv3d(in_channels, last, kernel_size=3, padding=1)
        self.mid_block = MidBlock3D(last, norm_num_groups, act_fn, mid_block_add_attention)
        self.up_blocks = nn.ModuleList()
        channels = last
        levels = zip(reversed(block_out_channels), (*reversed(temporal_factors), None), strict=True)
        for block_channels, factor in levels:
            self.up_blocks.append(
                UpDecoderBlock3D(channels, block_channels, layers_per_block + 1, factor, norm_num_groups, act_fn)
            )
            channels = block_channels
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, first, eps=_NORM_EPS)
        self.conv_act: nn.Module = get_activation(act_fn)
        self.conv_out = nn.Conv3d(first, out_channels * math.prod(patch_size), kernel_size=3, padding=1)
        self.refiner = None
        if refiner_channels > 0:
            self.refiner = Refiner(first, out_channels, refiner_channels, norm_num_groups, act_fn, patch_size)
        self.gradient_checkpointing = False

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        hidden_states = self.conv_in(sample)
        for block in (self.mid_block, *self.up_blocks):
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states = self._gradient_checkpointing_func(block, hidden_states)
            else:
                hidden_states = block(hidden_states)
        hidden_states = self.conv_act(self.conv_norm_out(hidden_states))
        cine = unpatchify(self.conv_out(hidden_states), self.patch_size)
        return cine if self.refiner is None else cine + self.refiner(hidden_states)


class AutoencoderKLCPGG(HubPolicyMixin, ModelMixin, ConfigMixin, AutoencoderMixin):  # type: ignore[misc]
    r"""
    A 3D-VAE with KL loss that encodes cines into latents and decodes latents into cines.

    This model inherits from [`ModelMixin`]: see there for loading, saving, devices and dtypes.

    Parameters:
        in_channels (`int`, defaults to 1): Channels of a cine.
        out_channels (`int`, defaults to 1): Channels of a reconstructed cine.
        block_out_channels (`tuple[int, ...]`, defaults to `(128, 256, 512, 512)`): Width of each level; height and
            width halve between levels.
        temporal_factors (`tuple[int, ...]`, defaults to `(1, 1, 2)`): By how much time shrinks at each downsampler of
            the encoder, one fewer than the levels; the decoder undoes them in reverse order.
        layers_per_block (`int`, defaults to 2): Residual blocks a level of the encoder; the decoder has one more.
        act_fn (`str`, defaults to `"silu"`): The activation function.
        latent_channels (`int`, defaults to 16): Channels of the latents.
        norm_num_groups (`int`, defaults to 32): Groups of each group normalisation.
        patch_size (`tuple[int, int, int]`, defaults to `(1, 1, 1)`): Frames, rows and columns that a space-to-depth
            stem folds into channels before the encoder, and unfolds after the decoder.
        refiner_channels (`int`, defaults to 0): Width of a residual block that sees every frame after the decoder and
            corrects what a stem draws a patch of frames at a time, a multiple of `norm_num_groups`; 0 for none.
        sample_size (`tuple[int, int, int]`, defaults to `(50, 96, 96)`): Frames, rows and columns of the cines that
            the model is made for. Others are accepted too, if divisible by `compression`.
        latents_mean (`list[float]`, *optional*): Mean of each latent channel over the training set (default: 0).
        latents_std (`list[float]`, *optional*): Standard deviation of each latent channel (default: 1).
        use_quant_conv (`bool`, defaults to `True`): Whether a 1x1x1 convolution follows the encoder.
        use_post_quant_conv (`bool`, defaults to `True`): Whether a 1x1x1 convolution precedes the decoder.
        mid_block_add_attention (`bool`, defaults to `True`): Whether the middle blocks attend over all positions.
        data_policy (`str`, *optional*): Of the data that the weights come from; not known = restricted.
    """

    config: Any  # attributes are the parameters above

    _supports_gradient_checkpointing = True
    _no_split_modules = ["ResnetBlock3D", "Attention"]  # type: ignore[assignment]  # noqa: RUF012
    _group_offload_block_modules = ["quant_conv", "post_quant_conv", "encoder", "decoder"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        block_out_channels: tuple[int, ...] = (128, 256, 512, 512),
        temporal_factors: tuple[int, ...] = (1, 1, 2),
        layers_per_block: int = 2,
        act_fn: str = "silu",
        latent_channels: int = 16,
        norm_num_groups: int = 32,
        patch_size: tuple[int, int, int] = (1, 1, 1),
        refiner_channels: int = 0,
        sample_size: tuple[int, int, int] = (50, 96, 96),
        latents_mean: list[float] | None = None,  # noqa: ARG002 (read from the config)
        latents_std: list[float] | None = None,  # noqa: ARG002
        use_quant_conv: bool = True,
        use_post_quant_conv: bool = True,
        mid_block_add_attention: bool = True,
        data_policy: str | None = None,  # noqa: ARG002
    ):
        super().__init__()
        self._check_config()

        common: dict[str, Any] = {
            "block_out_channels": tuple(block_out_channels),
            "temporal_factors": tuple(temporal_factors),
            "layers_per_block": layers_per_block,
            "norm_num_groups": norm_num_groups,
            "act_fn": act_fn,
            "mid_block_add_attention": mid_block_add_attention,
        }
        self.encoder = Encoder(in_channels * math.prod(patch_size), 2 * latent_channels, **common)
        self.decoder = Decoder(
            latent_channels, out_channels, **common, patch_size=patch_size, refiner_channels=refiner_channels
        )
        self.quant_conv = nn.Conv3d(2 * latent_channels, 2 * latent_channels, 1) if use_quant_conv else None
        self.post_quant_conv = nn.Conv3d(latent_channels, latent_channels, 1) if use_post_quant_conv else None

        self.use_slicing = False
        self.use_tiling = False
        self.tile_sample_size = tuple(
            math.ceil(size / 2 / ratio) * ratio for size, ratio in zip(sample_size, self.compression, strict=True)
        )
        self.tile_overlap_factor = 0.25

    @property
    def compression(self) -> tuple[int, int, int]:
        """How many frames, rows and columns of the cine one latent position stands for; (2, 8, 8) by default."""
        t, h, w = self.config.patch_size
        halvings = 2 ** (len(self.config.block_out_channels) - 1)
        return t * math.prod(self.config.temporal_factors), h * halvings, w * halvings

    @property
    def latent_size(self) -> tuple[int, int, int, int]:
        """Shape (C, T', H', W') of the latents of a cine of `sample_size`; (16, 25, 12, 12) by default."""
        sizes = zip(self.config.sample_size, self.compression, strict=True)
        return self.config.latent_channels, *(size // ratio for size, ratio in sizes)

    def standardise(self, latents: torch.Tensor) -> torch.Tensor:
        """Brings latents (B, C, T', H', W') to zero mean and unit deviation per channel of the training set."""
        mean, std = self._latent_moments(latents)
        return (latents - mean) / std

    def unstandardise(self, latents: torch.Tensor) -> torch.Tensor:
        """Undoes `standardise`: (B, C, T', H', W') as the decoder expects them."""
        mean, std = self._latent_moments(latents)
        return latents * std + mean

    def _latent_moments(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        channels = self.config.latent_channels
        mean = self.config.latents_mean or [0.0] * channels
        std = self.config.latents_std or [1.0] * channels
        return latents.new_tensor(mean).view(1, -1, 1, 1, 1), latents.new_tensor(std).view(1, -1, 1, 1, 1)

    def enable_tiling(
        self, tile_sample_size: tuple[int, int, int] | None = None, tile_overlap_factor: float | None = None
    ) -> None:
        """Encodes and decodes in overlapping tiles of space and time, so that memory does not grow with the cine.

        Group normalisation and attention see one tile at a time: the result is close to the untiled one, not equal.

        Args:
            tile_sample_size (`tuple[int, int, int]`, *optional*): Frames, rows and columns of a tile of the cine, each
                a multiple of `compression`; half of `sample_size` by default.
            tile_overlap_factor (`float`, *optional*): Fraction of a tile that it shares with the next; 0.25 by
                default. Overlaps are blended linearly.
        """
        size = tile_sample_size or self.tile_sample_size
        if any(length < 1 or length % ratio for length, ratio in zip(size, self.compression, strict=True)):
            raise ValueError(f"tile_sample_size is {tuple(size)}; expected positive multiples of {self.compression}")
        overlap = self.tile_overlap_factor if tile_overlap_factor is None else tile_overlap_factor
        if not 0 <= overlap < 1:
            raise ValueError(f"tile_overlap_factor is {overlap}; expected a number in [0, 1)")
        self.tile_sample_size, self.tile_overlap_factor = tuple(size), overlap
        self.use_tiling = True

    @apply_forward_hook
    def encode(
        self, x: torch.Tensor, return_dict: bool = True
    ) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """Encodes cines into latents.

        Args:
            x (`torch.Tensor`): Cines (B, in_channels, T, H, W) in [-1, 1]; T, H, W divisible by `compression`.
            return_dict (`bool`, defaults to `True`): Whether to return an `AutoencoderKLOutput` or a plain tuple.

        Returns:
            The posterior over latents (B, latent_channels, T', H', W'), in the dtype of `x`.

        Raises:
            ValueError: if the shape of `x` does not fit the model.
        """
        self._check_cine(x)
        slices = x.split(1) if self.use_slicing else (x,)
        posterior = DiagonalGaussianDistribution(torch.cat([self._encode(x_slice) for x_slice in slices]).to(x.dtype))
        if not return_dict:
            return (posterior,)
        return AutoencoderKLOutput(latent_dist=posterior)

    @apply_forward_hook
    def decode(self, z: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple[torch.Tensor]:
        """Decodes latents into cines.

        Args:
            z (`torch.Tensor`): Latents (B, latent_channels, T', H', W'), not standardised.
            return_dict (`bool`, defaults to `True`): Whether to return a `DecoderOutput` or a plain tuple.

        Returns:
            Cines (B, out_channels, T, H, W), nominally in [-1, 1] but not clipped, in the dtype of `z`.

        Raises:
            ValueError: if the shape of `z` does not fit the model.
        """
        if z.ndim != 5 or z.shape[1] != self.config.latent_channels:
            expected = f"(B, {self.config.latent_channels}, T', H', W')"
            raise ValueError(f"decode got a tensor of shape {tuple(z.shape)}; expected latents {expected}")
        slices = z.split(1) if self.use_slicing else (z,)
        sample = torch.cat([self._decode(z_slice) for z_slice in slices]).to(z.dtype)
        if not return_dict:
            return (sample,)
        return DecoderOutput(sample=sample)

    def forward(
        self,
        sample: torch.Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
        latent_noise: float = 0.0,
        noise: torch.Tensor | None = None,
    ) -> AutoencoderKLCPGGOutput | tuple[torch.Tensor]:
        """Encodes and decodes cines.

        Args:
            sample (`torch.Tensor`): Cines (B, in_channels, T, H, W) in [-1, 1].
            sample_posterior (`bool`, defaults to `False`): Whether to decode a draw from the posterior, not its mean.
            return_dict (`bool`, defaults to `True`): Whether to return an `AutoencoderKLCPGGOutput` or a plain tuple.
            generator (`torch.Generator`, *optional*): Makes the draw reproducible.
            latent_noise (`float`, defaults to 0): Deviation of noise added to the latents before they are decoded, in
                deviations of each channel of the cine: a decoder trained so forgives a generator's small errors.
            noise (`torch.Tensor`, *optional*): (B, 2, C, T', H', W'), standard normal: what the posterior's draw and
                `latent_noise` take. Drawn from `generator` by default.

        Returns:
            The reconstruction (B, out_channels, T, H, W), and the posterior unless a tuple is asked for.
        """
        posterior = self.encode(sample).latent_dist
        latents = posterior.mode()

        def normal(index: int) -> torch.Tensor:
            if noise is not None:
                return noise[:, index].to(latents.dtype)
            return randn_tensor(latents.shape, generator=generator, device=latents.device, dtype=latents.dtype)

        if sample_posterior:
            latents = (posterior.mean + posterior.std * normal(0)).to(latents.dtype)
        if latent_noise > 0:
            deviation = latents.detach().std(dim=(2, 3, 4), keepdim=True)
            latents = latents + latent_noise * deviation * normal(1)
        reconstruction = self.decode(latents).sample
        if not return_dict:
            return (reconstruction,)
        return AutoencoderKLCPGGOutput(sample=reconstruction, latent_dist=posterior)

    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        if self.use_tiling:
            return self._tiled(self._encode_tile, x, zip(self.tile_sample_size, self._tile_latent_size, strict=True))
        return self._encode_tile(x)

    def _decode(self, z: torch.Tensor) -> torch.Tensor:
        if self.use_tiling:
            return self._tiled(self._decode_tile, z, zip(self._tile_latent_size, self.tile_sample_size, strict=True))
        return self._decode_tile(z)

    @property
    def _tile_latent_size(self) -> tuple[int, ...]:
        return tuple(size // ratio for size, ratio in zip(self.tile_sample_size, self.compression, strict=True))

    def _encode_tile(self, x: torch.Tensor) -> torch.Tensor:
        moments = self.encoder(patchify(x, self.config.patch_size))
        return moments if self.quant_conv is None else self.quant_conv(moments)

    def _decode_tile(self, z: torch.Tensor) -> torch.Tensor:
        hidden_states = z if self.post_quant_conv is None else self.post_quant_conv(z)
        return self.decoder(hidden_states)

    def _tiled(
        self,
        network: Callable[[torch.Tensor], torch.Tensor],
        tensor: torch.Tensor,
        tiles: Iterable[tuple[int, int]],
    ) -> torch.Tensor:
        """Applies `network` tile by tile and blends; `tiles`: length of a tile in and out of it, for T, H and W."""
        axes = [
            _tile_axis(size, *lengths, self.tile_overlap_factor, tensor.device)
            for size, lengths in zip(tensor.shape[2:], tiles, strict=True)
        ]
        output = torch.zeros(())
        for frames, rows, columns in itertools.product(*axes):
            result = network(tensor[:, :, frames.source, rows.source, columns.source])
            if output.ndim == 0:
                output_size = (axis[-1].target.stop for axis in axes)
                output = result.new_zeros(*result.shape[:2], *output_size, dtype=torch.float32)
            weight = frames.weight[:, None, None] * rows.weight[:, None] * columns.weight
            output[:, :, frames.target, rows.target, columns.target] += result * weight
        return output

    def _check_config(self) -> None:
        config = self.config
        levels, factors, patch = config.block_out_channels, config.temporal_factors, config.patch_size
        if len(factors) != len(levels) - 1 or min((1, *factors)) < 1:
            raise ValueError(
                f"temporal_factors is {list(factors)}; expected {len(levels) - 1} positive integers, one between each "
                f"two of the {len(levels)} levels of block_out_channels"
            )
        if len(patch) != 3 or min(patch) < 1:
            raise ValueError(f"patch_size is {list(patch)}; expected three positive integers (frames, rows, columns)")
        for name, widths in (("block_out_channels", list(levels)), ("refiner_channels", [config.refiner_channels])):
            if any(channels % config.norm_num_groups for channels in widths):
                raise ValueError(
                    f"{name} is {config[name]}; expected multiples of norm_num_groups={config.norm_num_groups}"
                )
        if any(size % ratio for size, ratio in zip(config.sample_size, self.compression, strict=True)):
            raise ValueError(
                f"sample_size is {list(config.sample_size)}; expected multiples of {self.compression}, "
                "the compression that patch_size, temporal_factors and the levels amount to"
            )
        for name in ("latents_mean", "latents_std"):
            values = config[name]
            if values is not None and len(values) != config.latent_channels:
                raise ValueError(f"{name} has {len(values)} values; expected latent_channels={config.latent_channels}")
        if config.latents_std is not None and min(config.latents_std) <= 0:
            raise ValueError(f"latents_std must be positive; its smallest value is {min(config.latents_std)}")

    def _check_cine(self, x: torch.Tensor) -> None:
        if x.ndim != 5 or x.shape[1] != self.config.in_channels:
            expected = f"(B, {self.config.in_channels}, T, H, W)"
            raise ValueError(f"encode got a tensor of shape {tuple(x.shape)}; expected cines {expected}")
        if any(size % ratio for size, ratio in zip(x.shape[2:], self.compression, strict=True)):
            raise ValueError(
                f"encode got cines of T, H, W = {tuple(x.shape[2:])}; expected multiples of {self.compression}: "
                "resample the frames, crop or pad"
            )


class _TileSpan(NamedTuple):
    """Where a tile lies along one axis: of the input, of the output, and the weights of its outputs (length,)."""

    source: slice
    target: slice
    weight: torch.Tensor


def _tile_axis(size: int, tile_in: int, tile_out: int, overlap_factor: float, device: torch.device) -> list[_TileSpan]:
    """Cuts an axis of `size` inputs into overlapping tiles of equal length, whose weights sum to 1 at each output.

    A tile has `tile_in` inputs and `tile_out` outputs, fewer if the axis is shorter. Weights fall linearly across an
    overlap, never to 0.
    """
    unit_in, unit_out = tile_in // min(tile_in, tile_out), tile_out // min(tile_in, tile_out)
    latents = size // unit_in
    length = min(tile_in // unit_in, latents)
    overlap = min(int(length * overlap_factor), length - 1)
    starts = [*range(0, latents - length, length - overlap), latents - length]

    position = torch.arange(1, length * unit_out + 1, device=device, dtype=torch.float32)
    ramp = torch.minimum(position, position.flip(0)).clamp(max=overlap * unit_out + 1)
    total = torch.zeros(latents * unit_out, device=device)
    targets = [slice(start * unit_out, (start + length) * unit_out) for start in starts]
    for target in targets:
        total[target] += ramp
    sources = [slice(start * unit_in, (start + length) * unit_in) for start in starts]
    return [_TileSpan(source, target, ramp / total[target]) for source, target in zip(sources, targets, strict=True)]
