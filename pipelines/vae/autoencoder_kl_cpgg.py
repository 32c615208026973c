"""AutoencoderKLCPGG of CPGG (arXiv 2505.03426), for use without the package cpgg_hf.

Generated from the sources of cpgg_hf by `cpgg export-remote-code`, do not edit. Apache-2.0.
"""

import itertools
import math
import torch
import torch.nn.functional as F
from collections.abc import Callable
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.activations import get_activation
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput, DiagonalGaussianDistribution as _DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn
from typing import Any


# ---- cpgg_hf.models.gaussian


def kl_to_standard_normal(mean: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar)


# ---- cpgg_hf.models.autoencoder_kl_cpgg


_NORM_EPS = 1e-6


class DiagonalGaussianDistribution(_DiagonalGaussianDistribution):

    def __init__(self, parameters: torch.Tensor, deterministic: bool = False):
        super().__init__(parameters.to(torch.promote_types(parameters.dtype, torch.float32)), deterministic)
        self.dtype = parameters.dtype

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        return super().sample(generator).to(self.dtype)

    def mode(self) -> torch.Tensor:
        return self.mean.to(self.dtype)

    def kl(self, other: _DiagonalGaussianDistribution | None = None) -> torch.Tensor:
        if self.deterministic:
            return self.mean.new_zeros(self.mean.shape[0])
        if other is None:
            elements = kl_to_standard_normal(self.mean, self.logvar)
        else:
            elements = (self.mean - other.mean).square() / other.var + self.var / other.var - 1.0
            elements = 0.5 * (elements - self.logvar + other.logvar)
        return elements.flatten(1).sum(1)


def patchify(cine: torch.Tensor, patch_size: tuple[int, int, int]) -> torch.Tensor:
    batch_size, channels, *size = cine.shape
    (t, h, w), (frames, height, width) = patch_size, (n // p for n, p in zip(size, patch_size, strict=True))
    patches = cine.reshape(batch_size, channels, frames, t, height, h, width, w)
    return patches.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(batch_size, -1, frames, height, width)


def unpatchify(patches: torch.Tensor, patch_size: tuple[int, int, int]) -> torch.Tensor:
    batch_size, _, frames, height, width = patches.shape
    t, h, w = patch_size
    cine = patches.reshape(batch_size, -1, t, h, w, frames, height, width).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return cine.reshape(batch_size, -1, frames * t, height * h, width * w)


class ResnetBlock3D(nn.Module):

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

    def __init__(self, channels: int, temporal_factor: int):
        super().__init__()
        frames = max(3, temporal_factor)
        self.padding = (0, 1, 0, 1) + ((1, 1) if temporal_factor == 1 else (0, frames - temporal_factor))
        self.conv = nn.Conv3d(channels, channels, kernel_size=(frames, 3, 3), stride=(temporal_factor, 2, 2))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(hidden_states, self.padding))


class Upsample3D(nn.Module):

    def __init__(self, channels: int, temporal_factor: int):
        super().__init__()
        self.scale_factor = (float(temporal_factor), 2.0, 2.0)
        self.conv = nn.Conv3d(channels, channels, kernel_size=3, padding=1)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.conv(F.interpolate(hidden_states, scale_factor=self.scale_factor, mode="nearest"))


class DownEncoderBlock3D(nn.Module):

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


class AutoencoderKLCPGG(ModelMixin, ConfigMixin, AutoencoderMixin):  # type: ignore[misc]
    r"""
    A 3D-VAE with KL loss that encodes cines into latents and decodes latents into cines.

    This model inherits from [`ModelMixin`]: see there for loading, saving, devices and dtypes.

    Parameters:
        in_channels (`int`, defaults to 1): channels of a cine.
        out_channels (`int`, defaults to 1): channels of a reconstructed cine.
        block_out_channels (`tuple[int, ...]`, defaults to `(128, 256, 512, 512)`): width of each level; height and
            width halve between levels.
        temporal_factors (`tuple[int, ...]`, defaults to `(1, 1, 2)`): downsampling factor of time after each level of
            the encoder except the last; the decoder upsamples in reverse order.
        layers_per_block (`int`, defaults to 2): residual blocks per level of the encoder; the decoder has one more.
        act_fn (`str`, defaults to `"silu"`): the activation function.
        latent_channels (`int`, defaults to 16): channels of the latents.
        norm_num_groups (`int`, defaults to 32): groups of each group normalisation.
        patch_size (`tuple[int, int, int]`, defaults to `(1, 1, 1)`): frames, rows and columns that a space-to-depth
            stem folds into channels before the encoder and unfolds after the decoder.
        refiner_channels (`int`, defaults to 0): width of a residual block after the decoder that corrects every
            frame, a multiple of `norm_num_groups`; 0 = none.
        sample_size (`tuple[int, int, int]`, defaults to `(50, 96, 96)`): frames, rows and columns of the training
            cines. Other sizes are accepted if they are divisible by `compression`.
        latents_mean (`list[float]`, *optional*): mean of each latent channel over the training set (default: 0).
        latents_std (`list[float]`, *optional*): standard deviation of each latent channel (default: 1).
        use_quant_conv (`bool`, defaults to `True`): whether a 1x1x1 convolution follows the encoder.
        use_post_quant_conv (`bool`, defaults to `True`): whether a 1x1x1 convolution precedes the decoder.
        mid_block_add_attention (`bool`, defaults to `True`): whether the middle blocks attend over all positions.
        data_policy (`str`, *optional*): policy of the training data; `None` = restricted.
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
        sample_size: tuple[int, int, int] = (50, 96, 96),  # noqa: ARG002 (read from the config)
        latents_mean: list[float] | None = None,  # noqa: ARG002
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

    @property
    def compression(self) -> tuple[int, int, int]:
        """Frames, rows and columns of the cine per latent position; (2, 8, 8) by default."""
        t, h, w = self.config.patch_size
        halvings = 2 ** (len(self.config.block_out_channels) - 1)
        return t * math.prod(self.config.temporal_factors), h * halvings, w * halvings

    @property
    def latent_size(self) -> tuple[int, int, int, int]:
        """Shape (C, T', H', W') of the latents of a cine of `sample_size`; (16, 25, 12, 12) by default."""
        sizes = zip(self.config.sample_size, self.compression, strict=True)
        return self.config.latent_channels, *(size // ratio for size, ratio in sizes)

    def unstandardise(self, latents: torch.Tensor) -> torch.Tensor:
        """Undoes `standardise`: (B, C, T', H', W') for the decoder."""
        mean, std = self._latent_moments(latents)
        return latents * std + mean

    def _latent_moments(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        channels = self.config.latent_channels
        mean = self.config.latents_mean or [0.0] * channels
        std = self.config.latents_std or [1.0] * channels
        return latents.new_tensor(mean).view(1, -1, 1, 1, 1), latents.new_tensor(std).view(1, -1, 1, 1, 1)

    @apply_forward_hook
    def encode(
        self, x: torch.Tensor, return_dict: bool = True
    ) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """Encodes cines into latents.

        Args:
            x (`torch.Tensor`): cines (B, in_channels, T, H, W) in [-1, 1]; T, H, W divisible by `compression`.
            return_dict (`bool`, defaults to `True`): whether to return an `AutoencoderKLOutput` or a plain tuple.

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
            z (`torch.Tensor`): latents (B, latent_channels, T', H', W'), not standardised.
            return_dict (`bool`, defaults to `True`): whether to return a `DecoderOutput` or a plain tuple.

        Returns:
            Cines (B, out_channels, T, H, W), nominally in [-1, 1] but not clipped, in the dtype of `z`.

        Raises:
            ValueError: if the shape of `z` does not fit the model.
        """
        if z.ndim != 5 or z.shape[1] != self.config.latent_channels:
            expected = f"(B, {self.config.latent_channels}, T', H', W')"
            raise ValueError(f"decode expects latents {expected}, given a tensor of shape {tuple(z.shape)}.")
        slices = z.split(1) if self.use_slicing else (z,)
        sample = torch.cat([self._decode(z_slice) for z_slice in slices]).to(z.dtype)
        if not return_dict:
            return (sample,)
        return DecoderOutput(sample=sample)

    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        moments = self.encoder(patchify(x, self.config.patch_size))
        return moments if self.quant_conv is None else self.quant_conv(moments)

    def _decode(self, z: torch.Tensor) -> torch.Tensor:
        hidden_states = z if self.post_quant_conv is None else self.post_quant_conv(z)
        return self.decoder(hidden_states)

    def _check_config(self) -> None:
        config = self.config
        levels, factors, patch = config.block_out_channels, config.temporal_factors, config.patch_size
        if len(factors) != len(levels) - 1 or min((1, *factors)) < 1:
            raise ValueError(
                f"temporal_factors must be {len(levels) - 1} positive integers, one fewer than block_out_channels, "
                f"given {list(factors)}."
            )
        if len(patch) != 3 or min(patch) < 1:
            raise ValueError(
                f"patch_size must be three positive integers (frames, rows, columns), given {list(patch)}."
            )
        for name, widths in (("block_out_channels", list(levels)), ("refiner_channels", [config.refiner_channels])):
            if any(channels % config.norm_num_groups for channels in widths):
                raise ValueError(
                    f"{name} must be multiples of norm_num_groups={config.norm_num_groups}, given {config[name]}."
                )
        if any(size % ratio for size, ratio in zip(config.sample_size, self.compression, strict=True)):
            raise ValueError(
                f"sample_size must be multiples of {self.compression} (frames, rows, columns), given "
                f"{list(config.sample_size)}."
            )
        for name in ("latents_mean", "latents_std"):
            values = config[name]
            if values is not None and len(values) != config.latent_channels:
                raise ValueError(
                    f"{name} must have latent_channels={config.latent_channels} values, given {len(values)}."
                )
        if config.latents_std is not None and min(config.latents_std) <= 0:
            raise ValueError(f"latents_std must be positive, given a value of {min(config.latents_std)}.")

    def _check_cine(self, x: torch.Tensor) -> None:
        if x.ndim != 5 or x.shape[1] != self.config.in_channels:
            expected = f"(B, {self.config.in_channels}, T, H, W)"
            raise ValueError(f"encode expects cines {expected}, given a tensor of shape {tuple(x.shape)}.")
        if any(size % ratio for size, ratio in zip(x.shape[2:], self.compression, strict=True)):
            raise ValueError(
                f"T, H, W of a cine must be multiples of {self.compression}, given {tuple(x.shape[2:])}; resample the "
                "frames, crop or pad."
            )
