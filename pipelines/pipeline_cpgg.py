"""CPGGPipeline of CPGG (arXiv 2505.03426), for use without the package cpgg_hf.

Generated from the sources of cpgg_hf by `cpgg export-remote-code`, not to be edited. Apache-2.0.
"""

import PIL.Image
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from copy import deepcopy
import csv
from dataclasses import dataclass
import difflib
from diffusers.configuration_utils import ConfigMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.activations import get_activation
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.vae import AutoencoderMixin
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution as _DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMSchedulerOutput
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from diffusers.utils.torch_utils import randn_tensor
from functools import cache
from huggingface_hub.dataclasses import strict
import inspect
from itertools import pairwise
from itertools import product
import itertools
import json
import math
from numbers import Real
import numpy as np
import os
import pandas
import pandas as pd
from pathlib import Path
import re
import reprlib
from safetensors import SafetensorError
from safetensors import safe_open
from statistics import NormalDist
import textwrap
from torch import nn
import torch
import torch.nn.functional as F
from transformers import PreTrainedConfig
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.modeling_utils import LoadStateDictInfo
from transformers.utils import ModelOutput
from typing import Any
from typing import Literal
from typing import NamedTuple
from typing import TypeAlias


# ---- cpgg_hf.data.errors


def printable(text: str) -> str:
    """A text that a file gave, on one line and without what would steer a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def brief(said: object) -> str:
    """What another library's error or a file's value says, in one line that fits into a sentence of ours."""
    text = textwrap.shorten(str(said).rstrip(". \n"), 200, placeholder=" ...") or type(said).__name__
    return printable(text)


# ---- cpgg_hf.checkpoint_files


_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class CheckpointError(ValueError):
    """A folder that does not hold a whole CPGG pipeline; the message says what is wrong with which file."""


def check_index(folder: Path, class_name: str, components: Mapping[str, str | None]) -> None:
    """Checks that `model_index.json` describes a pipeline of `class_name` and that its components' folders exist.

    Args:
        folder: of the pipeline.
        class_name: of the pipeline.
        components: those that the folder must hold, and their class; None where several will do.

    Raises:
        CheckpointError: it does not.
    """
    path = folder / "model_index.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no model_index.json: it is no pipeline; give the folder that has it.")
    index = read_json(path)
    found = index.get("_class_name")
    if class_name not in (found if isinstance(found, list) else [found]):
        raise CheckpointError(f"{path} describes {found}, not {class_name}; give a checkpoint of this package.")
    for name, expected in components.items():
        if name not in index or not (folder / name).is_dir():
            raise CheckpointError(f"{folder} lacks the component {name}; download the checkpoint again.")
        declared = index[name][-1] if isinstance(index[name], list) and index[name] else None
        if expected is not None and declared != expected:
            raise CheckpointError(
                f"{path} says that {name} is {declared}, not {expected}; give a checkpoint of this package."
            )


def check_model(folder: Path, model_class: Any) -> None:
    """Checks that a folder holds the configuration of a `model_class` and exactly its weights, as safetensors.

    Raises:
        CheckpointError: it does not; pickles are refused, as loading one can run any code.
    """
    paths = sorted(folder.glob("*.safetensors"))
    pickles = sorted(path for path in folder.glob("*") if path.suffix in _PICKLES)
    if not paths and pickles:
        raise CheckpointError(
            f"{pickles[0]} is a pickle, which can run any code when it is loaded; convert it to safetensors first."
        )
    if not paths:
        raise CheckpointError(f"{folder} holds no .safetensors file; download the checkpoint again.")
    expected = _shapes_of_configuration(folder, model_class)
    found = {name: shape for path in paths for name, shape in _read_weights(path).items()}
    for verb, wrong, reason in (
        ("lacks", expected.keys() - found.keys(), "asks for"),
        ("holds", found.keys() - expected.keys(), "does not know"),
    ):
        if wrong:
            raise CheckpointError(
                f"{folder} {verb} {len(wrong)} tensors that its config.json {reason}, such as {min(wrong)!r}; "
                "weights and configuration do not belong together."
            )
    for name in sorted(expected):
        if found[name] != expected[name]:
            raise CheckpointError(
                f"{folder} holds {name!r} of shape {found[name]} where its config.json makes it {expected[name]}; "
                "weights and configuration do not belong together."
            )


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file of a checkpoint holds.

    Raises:
        CheckpointError: there is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is missing or damaged ({brief(error)}); download the checkpoint again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object; download the checkpoint again.")
    return content


def _shapes_of_configuration(folder: Path, model_class: Any) -> dict[str, tuple[int, ...]]:
    """The tensors that the model of a config.json has; the model is built without memory for its weights."""
    path = folder / "config.json"
    config = read_json(path)
    # diffusers writes one name, transformers a list of them.
    declared = config.get("_class_name", (config.get("architectures") or [None])[0])
    if declared != model_class.__name__:
        raise CheckpointError(
            f"{path} describes {declared or 'no model'}, not {model_class.__name__}; use a checkpoint of this package."
        )
    try:
        with torch.device("meta"):
            if hasattr(model_class, "config_class"):  # transformers
                model = model_class(model_class.config_class.from_pretrained(folder))
            else:
                model = model_class.from_config(model_class.load_config(folder))
    except Exception as error:  # whatever a constructor makes of wrong values
        raise CheckpointError(
            f"{path} makes no {model_class.__name__} ({brief(error)}); download the checkpoint again."
        ) from error
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _read_weights(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a file's tensors, all of which hold numbers."""
    shapes = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                tensor = file.get_tensor(name)
                shapes[name] = tuple(tensor.shape)
                if not torch.isfinite(tensor).all():
                    raise CheckpointError(
                        f"{path} holds values in {name!r} that are no numbers (NaN or infinite); its training failed, "
                        "or the file is damaged: take another checkpoint."
                    )
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged ({brief(error)}); download the checkpoint again.") from error
    return shapes


# ---- cpgg_hf.data.data_policy


DATA_POLICIES = ("restricted", "public", "phantom")  # strictest first


UNKNOWN_POLICY = DATA_POLICIES[0]


ADAPTER_POLICY_FILE = "data_policy.json"  # beside PEFT's own file, which has no room for it


def strictest(policies: Iterable[str | None]) -> str:
    """The policy of what descends from all of these; none at all, None or an unknown word is restricted."""
    found = set(policies)
    if not found or not found <= set(DATA_POLICIES):
        return UNKNOWN_POLICY
    return next(policy for policy in DATA_POLICIES if policy in found)


def policy_of_adapter(source: str | os.PathLike[str] | None, **hub: Any) -> str:
    """The policy of a PEFT adapter in a folder or hub repository, told by its `data_policy.json`; None: not known.

    Args:
        source: a folder, or the name of a repository.
        hub: of transformers' `cached_file`, such as `revision`, `token`, `subfolder`, `cache_dir`.
    """
    from transformers.utils import cached_file

    try:
        path = None if source is None else cached_file(source, ADAPTER_POLICY_FILE, **hub)
    except OSError:
        return UNKNOWN_POLICY  # there is none, or it cannot be reached
    return UNKNOWN_POLICY if path is None else strictest([_stated_in(Path(path))])


def _stated_in(path: Path) -> str | None:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("data_policy") if isinstance(content, dict) else None


# ---- cpgg_hf.models.autoencoder_kl_cpgg


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


class AutoencoderKLCPGG(ModelMixin, ConfigMixin, AutoencoderMixin):  # type: ignore[misc]
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


# ---- cpgg_hf.phenotypes.schema


_COLUMN = re.compile(r"(?:participant\.)?(?:f\.|p)?(\d{5})(?:-\d+\.\d+|\.\d+\.\d+|(?:_i\d+)?(?:_a\d+)?)")


_IN_FOUR_CHAMBER_VIEW = frozenset(
    ["LVEDV", "LVESV", "LVSV", "LVEF", "LVCO", "RVEDV", "RVESV", "RVSV", "RVEF"]
    + [f"{chamber}{quantity}" for chamber in ("LA", "RA") for quantity in ("V_max", "V_min", "SV", "EF")]
    + ["DAo_max_area", "DAo_min_area"]
    + [f"WT_AHA_{segment}" for segment in (3, 9, 14, 6, 12, 16)]
    + [f"Ell_{segment}" for segment in range(1, 7)]
    + ["Ell_Global"]
)


class PhenotypeError(ValueError):
    """Phenotypes that cannot be what was meant: the message names the column, the value and what to do."""


@dataclass(frozen=True)
class Phenotype:
    """One of the 82.

    Attributes:
        field_id: UK Biobank field number, 24100 to 24181.
        name: UK Biobank's description.
        short_name: the name used everywhere in this package, e.g. `LVEF`.
        unit: the physical unit of every value.
        structure: the part of the heart it belongs to.
        mean: population mean in `unit` (see `source`).
        sd: population standard deviation in `unit` (see `source`).
        minimum: smallest plausible value.
        maximum: largest plausible value.
        source: where mean and sd come from; many are assumed. They are no clinical reference ranges.
        measurable: whether it can be read from a four-chamber cine of known pixel size and frame time.
    """

    field_id: int
    name: str
    short_name: str
    unit: str
    structure: str
    mean: float
    sd: float
    minimum: float
    maximum: float
    source: str
    measurable: bool


def _read_table() -> tuple[Phenotype, ...]:
    table = """\
field_id,name,short_name,unit,structure,mean,sd,min_plausible,max_plausible,source
24100,LV end diastolic volume,LVEDV,mL,LV,143.3,33.9,40,500,Petersen2017 Table 12 via public code (M/F pooled 46/54)
24101,LV end systolic volume,LVESV,mL,LV,58.2,16.8,8,430,Petersen2017 Table 12 via public code (M/F pooled 46/54)
24102,LV stroke volume,LVSV,mL,LV,84.7,20.0,12,220,Petersen2017 Table 12 via public code (M/F pooled 46/54)
24103,LV ejection fraction,LVEF,%,LV,59.6,5.2,5,90,Petersen2017 abstract (M/F pooled)
24104,LV cardiac output,LVCO,L/min,LV,5.34,1.25,1.0,14.0,derived: LVSV x HR; HR 63+-10 bpm assumed
24105,LV myocardial mass,LVM,g,LV,85.6,23.7,25,350,derived: Petersen2017 abstract 53/42 g/m2 x BSA 1.95/1.68 assumed
24106,RV end diastolic volume,RVEDV,mL,RV,153.9,39.7,40,500,Petersen2017 recalled; agrees with ranges quoted in public code; verify Table 12
24107,RV end systolic volume,RVESV,mL,RV,68.8,23.8,10,430,Petersen2017 recalled; agrees with ranges quoted in public code; verify Table 12
24108,RV stroke volume,RVSV,mL,RV,85.1,20.3,12,220,Petersen2017 recalled; agrees with ranges quoted in public code; verify Table 12
24109,RV ejection fraction,RVEF,%,RV,56.2,6.3,5,90,Petersen2017 recalled; agrees with ranges quoted in public code; verify Table 12
24110,LA maximum volume,LAV_max,mL,LA,65.1,18.0,10,350,"Funk2018 (182 healthy, long-axis cine; pooled)"
24111,LA minimum volume,LAV_min,mL,LA,22.4,8.6,2,320,Funk2018 (182 healthy; pooled)
24112,LA stroke volume,LASV,mL,LA,42.7,12.3,3,160,"derived: LAV_max-LAV_min, r=0.8 assumed"
24113,LA ejection fraction,LAEF,%,LA,65.6,8.0,3,90,derived mean (Funk2018); SD assumed; UKB is older so expect lower
24114,RA maximum volume,RAV_max,mL,RA,82.0,25.0,15,350,assumed (single-plane 4ch)
24115,RA minimum volume,RAV_min,mL,RA,45.0,18.0,5,320,assumed (single-plane 4ch)
24116,RA stroke volume,RASV,mL,RA,37.0,12.0,3,180,assumed; = RAV_max-RAV_min
24117,RA ejection fraction,RAEF,%,RA,45.1,9.0,3,85,assumed; = RASV/RAV_max
24118,Ascending aorta maximum area,AAo_max_area,mm2,AAo,897.0,198.0,200,2400,derived: UKB diameter M 34.4+-3.5 F 31.5+-3.2 mm (n=44799; AHA abstract 16628); +-4.2% pulsation
24119,Ascending aorta minimum area,AAo_min_area,mm2,AAo,825.0,182.0,180,2350,derived: UKB diameter M 34.4+-3.5 F 31.5+-3.2 mm (n=44799; AHA abstract 16628); +-4.2% pulsation
24120,Ascending aorta distensibility,AAo_distensibility,1e-3/mmHg,AAo,1.94,1.32,0.05,15,Cecelja2022 (UKB n=8435; M/F pooled)
24121,Descending aorta maximum area,DAo_max_area,mm2,DAo,462.0,93.0,120,1600,"assumed: diameter 23.5+-2.4 mm, between Davis2014 CMR (M20.6 F18.9) and Framingham CT (M25.8 F23.1)"
24122,Descending aorta minimum area,DAo_min_area,mm2,DAo,414.0,84.0,110,1550,"assumed: diameter 23.5+-2.4 mm, between Davis2014 CMR (M20.6 F18.9) and Framingham CT (M25.8 F23.1)"
24123,Descending aorta distensibility,DAo_distensibility,1e-3/mmHg,DAo,2.5,1.2,0.05,15,"assumed (larger than ascending, cf. Bell2014 area strain)"
24124,LV mean myocardial wall thickness AHA 1,WT_AHA_1,mm,LV wall,6.0,1.3,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24125,LV mean myocardial wall thickness AHA 2,WT_AHA_2,mm,LV wall,7.0,1.3,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24126,LV mean myocardial wall thickness AHA 3,WT_AHA_3,mm,LV wall,7.0,1.3,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24127,LV mean myocardial wall thickness AHA 4,WT_AHA_4,mm,LV wall,6.2,1.3,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24128,LV mean myocardial wall thickness AHA 5,WT_AHA_5,mm,LV wall,5.9,1.3,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24129,LV mean myocardial wall thickness AHA 6,WT_AHA_6,mm,LV wall,5.8,1.3,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24130,LV mean myocardial wall thickness AHA 7,WT_AHA_7,mm,LV wall,5.2,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24131,LV mean myocardial wall thickness AHA 8,WT_AHA_8,mm,LV wall,6.0,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24132,LV mean myocardial wall thickness AHA 9,WT_AHA_9,mm,LV wall,6.7,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24133,LV mean myocardial wall thickness AHA 10,WT_AHA_10,mm,LV wall,5.8,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24134,LV mean myocardial wall thickness AHA 11,WT_AHA_11,mm,LV wall,5.2,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24135,LV mean myocardial wall thickness AHA 12,WT_AHA_12,mm,LV wall,5.2,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24136,LV mean myocardial wall thickness AHA 13,WT_AHA_13,mm,LV wall,5.1,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24137,LV mean myocardial wall thickness AHA 14,WT_AHA_14,mm,LV wall,5.6,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24138,LV mean myocardial wall thickness AHA 15,WT_AHA_15,mm,LV wall,5.0,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24139,LV mean myocardial wall thickness AHA 16,WT_AHA_16,mm,LV wall,4.9,1.2,1.5,30,"assumed pattern (septum>lateral, base>apex), anchored to Kawel2012"
24140,LV mean myocardial wall thickness global,WT_Global,mm,LV wall,5.76,1.11,2,25,Kawel2012 (MESA mid-cavity mean; M/F pooled); UKB max WT is 9.40+-1.62 (OpenHeart2023)
24141,LV circumferential strain AHA 1,Ecc_AHA_1,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24142,LV circumferential strain AHA 2,Ecc_AHA_2,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24143,LV circumferential strain AHA 3,Ecc_AHA_3,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24144,LV circumferential strain AHA 4,Ecc_AHA_4,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24145,LV circumferential strain AHA 5,Ecc_AHA_5,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24146,LV circumferential strain AHA 6,Ecc_AHA_6,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24147,LV circumferential strain AHA 7,Ecc_AHA_7,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24148,LV circumferential strain AHA 8,Ecc_AHA_8,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24149,LV circumferential strain AHA 9,Ecc_AHA_9,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24150,LV circumferential strain AHA 10,Ecc_AHA_10,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24151,LV circumferential strain AHA 11,Ecc_AHA_11,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24152,LV circumferential strain AHA 12,Ecc_AHA_12,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24153,LV circumferential strain AHA 13,Ecc_AHA_13,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24154,LV circumferential strain AHA 14,Ecc_AHA_14,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24155,LV circumferential strain AHA 15,Ecc_AHA_15,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24156,LV circumferential strain AHA 16,Ecc_AHA_16,%,LV wall,-22.3,6.0,-60,0,"assumed: global mean, SD 1.8x global"
24157,LV circumferential strain global,Ecc_Global,%,LV wall,-22.33,3.35,-40,0,OpenHeart2023 scoliosis paper table (UKB n=38319)
24158,LV radial strain AHA 1,Err_AHA_1,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24159,LV radial strain AHA 2,Err_AHA_2,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24160,LV radial strain AHA 3,Err_AHA_3,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24161,LV radial strain AHA 4,Err_AHA_4,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24162,LV radial strain AHA 5,Err_AHA_5,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24163,LV radial strain AHA 6,Err_AHA_6,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24164,LV radial strain AHA 7,Err_AHA_7,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24165,LV radial strain AHA 8,Err_AHA_8,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24166,LV radial strain AHA 9,Err_AHA_9,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24167,LV radial strain AHA 10,Err_AHA_10,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24168,LV radial strain AHA 11,Err_AHA_11,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24169,LV radial strain AHA 12,Err_AHA_12,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24170,LV radial strain AHA 13,Err_AHA_13,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24171,LV radial strain AHA 14,Err_AHA_14,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24172,LV radial strain AHA 15,Err_AHA_15,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24173,LV radial strain AHA 16,Err_AHA_16,%,LV wall,45.0,15.0,0,200,"assumed: global mean, SD 1.8x global"
24174,LV radial strain global,Err_Global,%,LV wall,45.0,8.31,0,120,OpenHeart2023 scoliosis paper table (UKB n=38319)
24175,LV longitudinal strain Segment 1,Ell_1,%,LV wall,-18.5,5.0,-55,0,"assumed: global mean, SD 1.8x global"
24176,LV longitudinal strain Segment 2,Ell_2,%,LV wall,-18.5,5.0,-55,0,"assumed: global mean, SD 1.8x global"
24177,LV longitudinal strain Segment 3,Ell_3,%,LV wall,-18.5,5.0,-55,0,"assumed: global mean, SD 1.8x global"
24178,LV longitudinal strain Segment 4,Ell_4,%,LV wall,-18.5,5.0,-55,0,"assumed: global mean, SD 1.8x global"
24179,LV longitudinal strain Segment 5,Ell_5,%,LV wall,-18.5,5.0,-55,0,"assumed: global mean, SD 1.8x global"
24180,LV longitudinal strain Segment 6,Ell_6,%,LV wall,-18.5,5.0,-55,0,"assumed: global mean, SD 1.8x global"
24181,LV longitudinal strain global,Ell_Global,%,LV wall,-18.5,2.76,-40,0,OpenHeart2023 scoliosis paper table (UKB n=38319)
"""
    return tuple(
        Phenotype(
            field_id=int(row["field_id"]),
            name=row["name"],
            short_name=row["short_name"],
            unit=row["unit"],
            structure=row["structure"],
            mean=float(row["mean"]),
            sd=float(row["sd"]),
            minimum=float(row["min_plausible"]),
            maximum=float(row["max_plausible"]),
            source=row["source"],
            measurable=row["short_name"] in _IN_FOUR_CHAMBER_VIEW,
        )
        for row in csv.DictReader(table.splitlines())
    )


PHENOTYPES: tuple[Phenotype, ...] = _read_table()


NAMES: tuple[str, ...] = tuple(phenotype.short_name for phenotype in PHENOTYPES)


_INDEX_OF_NAME = {name: index for index, name in enumerate(NAMES)}


_INDEX_OF_FIELD = {phenotype.field_id: index for index, phenotype in enumerate(PHENOTYPES)}


def phenotype_index(name_or_field: str | int) -> int:
    """Position (0 to 81) of a phenotype.

    Args:
        name_or_field: a short name (`"LVEF"`), a field number (`24103`, `"24103"`) or a UK Biobank column name
            (`"24103-2.0"`, `"f.24103.2.0"`, `"p24103_i2"`).

    Raises:
        PhenotypeError: the name is unknown; the message gives the nearest valid one.
    """
    text = str(name_or_field).strip()
    if text in _INDEX_OF_NAME:
        return _INDEX_OF_NAME[text]
    if not text:
        raise PhenotypeError("a phenotype has no name: give each column the name of its phenotype, or leave it out")
    column = _COLUMN.fullmatch(text)
    if column and int(column[1]) in _INDEX_OF_FIELD:
        return _INDEX_OF_FIELD[int(column[1])]
    suggestion = _suggest(text[:100], int(column[1]) if column else None)
    raise PhenotypeError(f"unknown phenotype {reprlib.repr(text)}: {suggestion}")


def _suggest(text: str, field_id: int | None) -> str:
    first, last = PHENOTYPES[0].field_id, PHENOTYPES[-1].field_id
    if field_id is not None or re.fullmatch(r"-?\d{1,9}", text):
        number = int(text) if field_id is None else field_id
        nearest = PHENOTYPES[min(max(number, first), last) - first]
        return f"fields {first} to {last} are known; the nearest is {nearest.field_id} ({nearest.short_name})"
    lowered = {name.lower(): name for name in NAMES} | {item.name.lower(): item.short_name for item in PHENOTYPES}
    nearest_name = lowered[difflib.get_close_matches(text.lower(), lowered, n=1, cutoff=0.0)[0]]
    return f"did you mean {nearest_name!r}? (cpgg_hf.phenotypes.NAMES lists all 82)"


# ---- cpgg_hf.phenotypes.identities


# (largest volume, smallest volume, stroke volume, ejection fraction)
CHAMBERS: tuple[tuple[int, int, int, int], ...] = tuple(
    (phenotype_index(largest), phenotype_index(smallest), phenotype_index(f"{name}SV"), phenotype_index(f"{name}EF"))
    for name, largest, smallest in (
        ("LV", "LVEDV", "LVESV"),
        ("RV", "RVEDV", "RVESV"),
        ("LA", "LAV_max", "LAV_min"),
        ("RA", "RAV_max", "RAV_min"),
    )
)


# (largest area, smallest area, distensibility)
AORTAS: tuple[tuple[int, int, int], ...] = tuple(
    (
        phenotype_index(f"{name}_max_area"),
        phenotype_index(f"{name}_min_area"),
        phenotype_index(f"{name}_distensibility"),
    )
    for name in ("AAo", "DAo")
)


DERIVED_INDICES: tuple[int, ...] = (*(index for chamber in CHAMBERS for index in chamber[2:]), AORTAS[1][2])


# Relative differences below this are float64 rounding of an exact identity.
EXACT = 1e-12


_FLOAT32_ROUNDING = 2.0**-23


def heart_rate(array: np.ndarray) -> np.ndarray:
    """Heart rate (B,) in beats a minute implied by (B, 82) phenotypes: 1000 LVCO / LVSV; NaN where one is missing."""
    return _divide(1000 * array[:, phenotype_index("LVCO")], array[:, phenotype_index("LVSV")])


def pulse_pressure(array: np.ndarray) -> np.ndarray:
    """Pulse pressure (B,) in mmHg from the ascending aorta, or the descending one where the ascending is missing."""
    ascending, descending = (_pulse_pressure(array, aorta) for aorta in AORTAS)
    return np.where(np.isnan(ascending), descending, ascending)


def enforce_identities(array: np.ndarray) -> np.ndarray:
    """Recompute the nine derived of (B, 82) phenotypes from the 73 free ones, so that the identities hold exactly."""
    result = np.array(array, dtype=np.float64)
    result[:, DERIVED_INDICES] = _derived(result)
    return result


def identity_residuals(array: np.ndarray) -> np.ndarray:
    """Given minus recomputed value of each derived phenotype, in its unit: (B, 9), ordered as `DERIVED_INDICES`."""
    return array[:, DERIVED_INDICES] - _derived(array)


def disagreements(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far redundant values are from agreeing, and how much of that rounding explains.

    What is missing is filled from the rest first, so that any three of a chamber's four values are compared. The
    decimals of a table are those it is written with, taken a unit at a time (all volumes together); half a unit of the
    last one is carried through filling and identities to first order. float32 counts as rounding too.

    Args:
        array: (B, 82) phenotypes, NaN = missing.

    Returns:
        residuals and rounding tolerances, both (B, 9) in the unit and order of `DERIVED_INDICES`; NaN and 0 where the
        row does not say enough.
    """
    residuals = identity_residuals(fill_determined(array))
    tolerances = EXACT * np.nan_to_num(np.abs(fill_determined(array)[:, DERIVED_INDICES]))
    half_units = _half_units(array)
    for index in sorted({index for group in (*CHAMBERS, *AORTAS) for index in group}):
        moved = np.array(array, dtype=np.float64)
        moved[:, index] += half_units[:, index]
        tolerances += np.nan_to_num(np.abs(identity_residuals(fill_determined(moved)) - residuals))
    return residuals, tolerances


def complete_identities(array: np.ndarray) -> np.ndarray:
    """Fill what the given values determine.

    Two of a chamber's largest volume, smallest volume, SV and EF determine the other two; five of the six aortic
    values determine the sixth. Given values stay untouched, also redundant ones that agree within rounding.

    Args:
        array: (B, 82) phenotypes, NaN = missing.

    Returns:
        a new (B, 82) array.

    Raises:
        PhenotypeError: an over-determined request that contradicts itself, a largest volume or area that is not above
            the smallest, or an EF outside 0 to 100 %.
    """
    given = np.array(array, dtype=np.float64)
    for chamber in CHAMBERS:
        _check_fraction(given, chamber[3])
    result = fill_determined(given)
    for group in (*CHAMBERS, *AORTAS):
        _check_order(result, group, given)
    _check_agreement(result, given)
    return result


def fill_determined(array: np.ndarray) -> np.ndarray:
    """`complete_identities` without its checks: for values that are known to agree."""
    result = np.array(array, dtype=np.float64)
    for chamber in CHAMBERS:
        _complete_chamber(result, chamber)
    _complete_aortas(result)
    return result


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return numerator / denominator


def _pulse_pressure(array: np.ndarray, aorta: tuple[int, int, int]) -> np.ndarray:
    largest, smallest, distensibility = array[:, aorta].T
    return _divide(1000 * (largest - smallest), smallest * distensibility)


def _derived(array: np.ndarray) -> np.ndarray:
    columns = []
    for chamber in CHAMBERS:
        largest, smallest = array[:, chamber[:2]].T
        stroke = largest - smallest
        columns += [stroke, _divide(100 * stroke, largest)]
    largest, smallest = array[:, AORTAS[1][:2]].T
    columns.append(_divide(1000 * (largest - smallest), smallest * _pulse_pressure(array, AORTAS[0])))
    return np.stack(columns, axis=1)


def _half_units(array: np.ndarray) -> np.ndarray:
    result = np.zeros(array.shape)
    for unit in {phenotype.unit for phenotype in PHENOTYPES}:
        columns = [index for index, phenotype in enumerate(PHENOTYPES) if phenotype.unit == unit]
        values = array[:, columns]
        values = values[np.isfinite(values)]
        rounding = _FLOAT32_ROUNDING * np.abs(values)
        decimals = 0
        while decimals < 12 and np.any(np.abs(np.round(values, decimals) - values) > rounding):
            decimals += 1
        result[:, columns] = 0.5 * 10.0**-decimals
    return np.maximum(result, _FLOAT32_ROUNDING * np.abs(np.nan_to_num(array)))


def _fill(array: np.ndarray, index: int, values: np.ndarray) -> None:
    missing = np.isnan(array[:, index])
    array[missing, index] = values[missing]


def _complete_chamber(array: np.ndarray, chamber: tuple[int, int, int, int]) -> None:
    largest, smallest, stroke, fraction = chamber
    remaining = 1 - array[:, fraction] / 100
    _fill(array, largest, array[:, smallest] + array[:, stroke])
    _fill(array, largest, _divide(array[:, smallest], remaining))
    _fill(array, largest, _divide(100 * array[:, stroke], array[:, fraction]))
    _fill(array, smallest, array[:, largest] - array[:, stroke])
    _fill(array, smallest, array[:, largest] * remaining)
    _fill(array, stroke, array[:, largest] - array[:, smallest])
    _fill(array, fraction, _divide(100 * array[:, stroke], array[:, largest]))


def _complete_aortas(array: np.ndarray) -> None:
    for own, other in (AORTAS, AORTAS[::-1]):
        largest, smallest, distensibility = own
        pressure = _pulse_pressure(array, other)
        relative_change = array[:, distensibility] * pressure / 1000
        _fill(array, largest, array[:, smallest] * (1 + relative_change))
        _fill(array, smallest, array[:, largest] / (1 + relative_change))
        area_change = array[:, largest] - array[:, smallest]
        _fill(array, distensibility, _divide(1000 * area_change, array[:, smallest] * pressure))


def _shown(given: np.ndarray, row: int, indices: tuple[int, ...]) -> str:
    parts = [
        f"{NAMES[index]} = {given[row, index]:.6g} {PHENOTYPES[index].unit}"
        for index in indices
        if not np.isnan(given[row, index])
    ]
    return f"row {row}: " + ", ".join(parts)


def _check_fraction(given: np.ndarray, fraction: int) -> None:
    for row in map(int, np.flatnonzero((given[:, fraction] <= 0) | (given[:, fraction] >= 100))):
        raise PhenotypeError(f"{_shown(given, row, (fraction,))}: an ejection fraction lies between 0 and 100 %")


def _check_order(array: np.ndarray, group: tuple[int, ...], given: np.ndarray) -> None:
    largest, smallest = array[:, group[:2]].T
    for row in map(int, np.flatnonzero((largest <= smallest) | (smallest <= 0))):
        raise PhenotypeError(
            f"{_shown(given, row, group)}: {NAMES[group[0]]} must be above {NAMES[group[1]]} and both positive, but"
            f" they are {largest[row]:.6g} and {smallest[row]:.6g} {PHENOTYPES[group[0]].unit}; leave out one"
        )


def _check_agreement(array: np.ndarray, given: np.ndarray) -> None:
    residuals, tolerances = disagreements(given)
    for row, identity in np.argwhere(np.abs(residuals) > tolerances).tolist():
        index = DERIVED_INDICES[identity]
        group = next((chamber for chamber in CHAMBERS if index in chamber), AORTAS[0] + AORTAS[1])
        implied = array[row, index] - residuals[row, identity]
        raise PhenotypeError(
            f"{_shown(given, row, group)} contradict each other: the others imply {NAMES[index]} = {implied:.6g}"
            f" {PHENOTYPES[index].unit}; leave one of them out"
        )


# ---- cpgg_hf.phenotypes.units


# unit -> (unit that was probably meant, factor from that unit to ours)
_MISTAKEN_UNITS: dict[str, tuple[tuple[str, float], ...]] = {
    "mL": (("L", 1e3), ("m^3", 1e6), ("uL", 1e-3)),
    "%": (("a fraction", 1e2),),
    "L/min": (("mL/min", 1e-3), ("m^3/min", 1e3)),
    "g": (("kg", 1e3), ("mg", 1e-3)),
    "mm": (("cm", 1e1), ("m", 1e3), ("um", 1e-3)),
    "mm2": (("cm^2", 1e2), ("m^2", 1e6)),
    "1e-3/mmHg": (("1/mmHg", 1e3),),
}


_STRAIN_GROUPS = tuple(
    np.array(
        [index for index, name in enumerate(NAMES) if name.startswith(family) and name.endswith("Global") == whole]
    )
    for family in ("Ecc_", "Err_", "Ell_")
    for whole in (False, True)
)


_MINIMUM = np.array([phenotype.minimum for phenotype in PHENOTYPES])


_MAXIMUM = np.array([phenotype.maximum for phenotype in PHENOTYPES])


def describe(phenotype: Phenotype, value: float) -> str:
    """`LVEF = 0.55 % (plausible: 5 to 90 %)`."""
    limits = f"plausible: {phenotype.minimum:g} to {phenotype.maximum:g} {phenotype.unit}"
    return f"{phenotype.short_name} = {value:.6g} {phenotype.unit} ({limits})"


def wrong_magnitudes(array: np.ndarray) -> Iterator[tuple[int, int, str]]:
    """Every value whose magnitude says that the unit is wrong.

    Args:
        array: (B, 82) phenotypes in physical units; NaN = missing.

    Yields:
        row, column, and one sentence naming column, value, unit, plausible range and what to do.
    """
    # Strains may be slightly beyond zero; everything else positive has a sign error or a unit error below half.
    below = np.where(_MINIMUM > 0, _MINIMUM / 2, np.where(_MINIMUM == 0, 0, 2 * _MINIMUM))
    above = np.where(_MAXIMUM > 0, 2 * _MAXIMUM, 1)
    for row, column in np.argwhere((array < below) | (array > above)).tolist():
        remedy = _remedy(PHENOTYPES[column], float(array[row, column]))
        if remedy:
            yield row, column, f"{describe(PHENOTYPES[column], array[row, column])}: {remedy}"
    yield from _strains_as_fractions(array)


def _remedy(phenotype: Phenotype, value: float) -> str:
    for unit, factor in _MISTAKEN_UNITS[phenotype.unit]:
        if phenotype.minimum <= value * factor <= phenotype.maximum:
            return f"it looks like {unit}; multiply by {factor:g} to give it in {phenotype.unit}"
    if phenotype.minimum >= 0 > value:
        return "it cannot be negative; correct it, or leave it out (NaN) if it is missing"
    if phenotype.minimum <= -value <= phenotype.maximum:
        return "its sign is wrong; strains that shorten (Ecc, Ell) are negative, all other phenotypes positive"
    if value > 10 * phenotype.maximum or value < phenotype.minimum / 10:
        return f"its magnitude is wrong; give it in {phenotype.unit}, or leave it out (NaN) if it is missing"
    return ""


def _strains_as_fractions(array: np.ndarray) -> Iterator[tuple[int, int, str]]:
    # One nearly still segment is a scar; a whole table of strains below 1 % is a table of fractions.
    for columns in _STRAIN_GROUPS:
        given = array[:, columns]
        present = np.isfinite(given) & (given != 0)
        if present.any() and np.all(np.abs(given[present]) <= 1):
            row, position = np.argwhere(present)[0]
            phenotype, value = PHENOTYPES[columns[position]], given[row, position]
            remedy = f"it looks like a fraction; multiply by 100 to give it in {phenotype.unit}"
            yield int(row), int(columns[position]), f"{describe(phenotype, value)}: {remedy}"


def check_magnitudes(array: np.ndarray) -> None:
    """Raise `PhenotypeError` for the first value of (B, 82) `array` that is infinite or in the wrong unit."""
    for row, column in np.argwhere(np.isinf(array)):
        raise PhenotypeError(
            f"row {row}: {describe(PHENOTYPES[column], array[row, column])}: it is not finite; missing values are NaN"
        )
    for row, _, sentence in wrong_magnitudes(array):
        raise PhenotypeError(f"row {row}: {sentence}")


# ---- cpgg_hf.phenotypes.tables


# Who a row belongs to is no phenotype: these columns are skipped instead of refused.
IDENTIFIER_COLUMNS = frozenset(["eid", "f.eid", "participant.eid", "subject", "subject_id"])


def as_array(table: Any) -> np.ndarray:
    """Phenotypes as one array.

    Args:
        table: a dict (values: numbers or equally long lists), a list of dicts, a `pandas.DataFrame`, an array or
            tensor (82,) or (B, 82), or a list of (82,) arrays or tensors; physical units, NaN or absent = missing.

    Returns:
        (B, 82) float64, in the order of `NAMES`.

    Raises:
        PhenotypeError: unknown or repeated columns, wrong shapes, no rows, values that are no numbers or whose
            magnitude says that the unit is wrong (an LVEF of 0.55, a volume in litres, a negative volume).
    """
    array = parse_table(table)
    check_magnitudes(array)
    return array


def parse_table(table: Any) -> np.ndarray:
    """`as_array` without the check of magnitudes: what `validate` reports on."""
    if isinstance(table, Mapping):
        return _from_columns(table)
    if hasattr(table, "columns") and hasattr(table, "iloc"):
        repeated = table.columns[table.columns.duplicated()]
        if len(repeated):
            raise PhenotypeError(f"column {reprlib.repr(str(repeated[0]))} is there twice: keep one of them")
        return _from_columns({column: table[column].to_list() for column in table.columns})
    if isinstance(table, Sequence) and not isinstance(table, str) and table and isinstance(table[0], Mapping):
        return _from_rows(table)
    if isinstance(table, Sequence) and not isinstance(table, str):
        return _check_shape(_stack([_to_numpy(vector) for vector in table]))
    return _check_shape(_to_numpy(table))


def as_frame(array: Any) -> "pandas.DataFrame":
    """(82,) or (B, 82) phenotypes as a data frame with `NAMES` as columns."""
    import pandas

    return pandas.DataFrame(_check_shape(_to_numpy(array)), columns=list(NAMES))


def _to_numpy(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PhenotypeError(
            f"phenotypes of type {type(values).__name__} are not numeric: give a dict, a list of dicts, a DataFrame"
            f" or a (B, {len(NAMES)}) array ({error})"
        ) from error


def _stack(vectors: list[np.ndarray]) -> np.ndarray:
    shapes = {vector.shape for vector in vectors}
    if len(shapes) > 1:
        raise PhenotypeError(f"the phenotype vectors differ in shape, {sorted(shapes)}: each must be ({len(NAMES)},)")
    return np.array(vectors)


def _check_shape(array: np.ndarray) -> np.ndarray:
    expected = f"expected ({len(NAMES)},) or (B, {len(NAMES)}), in the order of cpgg_hf.phenotypes.NAMES"
    if array.shape == (len(NAMES),):
        return array[None]
    if array.size == 0:
        raise PhenotypeError("the table of phenotypes is empty: give at least one row")
    if array.ndim != 2 or array.shape[1] != len(NAMES):
        raise PhenotypeError(f"phenotypes of shape {array.shape}: {expected}; name the columns if only some are given")
    return array


def _columns_of(names: Iterable[Any]) -> dict[Any, int]:
    columns: dict[Any, int] = {}
    for name in names:
        if str(name) in IDENTIFIER_COLUMNS:
            continue
        index = phenotype_index(name)
        for other, taken in columns.items():
            if taken == index:
                raise PhenotypeError(
                    f"columns {str(other)!r} and {str(name)!r} are both {NAMES[index]}: keep one of them"
                )
        columns[name] = index
    return columns


def _from_columns(table: Mapping[Any, Any]) -> np.ndarray:
    columns = _columns_of(table)
    values = {name: _column_values(table[name]) for name in columns}
    lengths = {len(column) for column in values.values()} or {1}
    if len(lengths) > 1:
        raise PhenotypeError(f"columns of different lengths {sorted(lengths)}: give one value a row in every column")
    array = np.full((lengths.pop(), len(NAMES)), np.nan)
    for name, index in columns.items():
        array[:, index] = [_number(value, index, row) for row, value in enumerate(values[name])]
    return _check_shape(array)


def _from_rows(rows: Sequence[Mapping[Any, Any]]) -> np.ndarray:
    array = np.full((len(rows), len(NAMES)), np.nan)
    for row, values in enumerate(rows):
        if not isinstance(values, Mapping):
            raise PhenotypeError(
                f"row {row} is a {type(values).__name__} among dicts: give every row in the same form"
            )
        for name, index in _columns_of(values).items():
            array[row, index] = _number(values[name], index, row)
    return array


def _column_values(values: Any) -> Sequence[Any]:
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    if isinstance(values, np.ndarray) or hasattr(values, "to_list"):
        values = values.tolist()
    return values if isinstance(values, list | tuple) else [values]


def _number(value: Any, index: int, row: int) -> float:
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "na", "nan")):
        return np.nan
    if type(value).__name__ == "NAType":
        return np.nan
    try:
        if isinstance(value, bool | np.bool_) or "_" in str(value):  # which `float` takes
            raise ValueError
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise PhenotypeError(
            f"row {row}: {NAMES[index]} = {reprlib.repr(value)} is no number: give it in {PHENOTYPES[index].unit}, or"
            " leave it out"
        ) from error


# ---- cpgg_hf.models.configuration_cpgg_mar


@strict
class CPGGMARConfig(PreTrainedConfig):
    r"""
    Configuration of a [`CPGGMARModel`]. The defaults are the paper's; where its text and code differ, the code's.

    Args:
        num_phenotypes (`int`, defaults to 82):
            Number of phenotypes that condition a cine.
        phenotype_mean (`list[float]`, *optional*):
            Mean of each phenotype in physical units; `None` takes the table of `cpgg_hf.phenotypes`.
        phenotype_sd (`list[float]`, *optional*):
            Standard deviation of each phenotype in physical units; `None` takes the table of `cpgg_hf.phenotypes`.
        latent_channels (`int`, defaults to 16):
            Channels of the latents.
        latent_size (`tuple[int, int, int]`, defaults to `(25, 12, 12)`):
            Frames, rows and columns of the latents.
        patch_size (`tuple[int, int, int]`, defaults to `(5, 2, 2)`):
            Frames, rows and columns of the latent patch that makes a token.
        encoder_width (`int`, defaults to 768):
            Width of the encoder, which sees the visible tokens only.
        encoder_depth (`int`, defaults to 12):
            Layers of the encoder.
        decoder_width (`int`, defaults to 768):
            Width of the decoder, which sees all tokens.
        decoder_depth (`int`, defaults to 12):
            Layers of the decoder.
        num_attention_heads (`int`, defaults to 12):
            Attention heads of encoder and decoder.
        mlp_ratio (`float`, defaults to 4.0):
            Hidden width of a layer's MLP over the layer's width.
        num_condition_tokens (`int`, defaults to 64):
            How many tokens before the sequence carry the embedded phenotypes (the paper's text says one).
        condition_projection (`str`, defaults to `"linear"`):
            What embeds the phenotypes: `"linear"`, or `"mlp"` as in the paper's text (linear, SiLU, linear).
        head_type (`str`, defaults to `"diffusion"`):
            What the head learns: `"diffusion"`, the paper's, estimates noise and variance of a diffusion with cosine
            schedule; `"flow_matching"` the velocity of a straight flow from noise to token, for few Euler steps.
        head_width (`int`, defaults to 1024):
            Width of the token diffusion head.
        head_depth (`int`, defaults to 3):
            Residual blocks of the token diffusion head.
        num_train_timesteps (`int`, defaults to 1000):
            Steps of the diffusion that the head is trained on (cosine schedule), or a flow's timestep of pure noise.
        timesteps_per_token (`int`, defaults to 4):
            How many diffusion timesteps a training step draws for each masked token.
        mask_ratio_minimum (`float`, defaults to 0.7):
            Lower bound of the share of masked tokens in training; the upper bound is 1.
        mask_ratio_mean (`float`, defaults to 1.0):
            Mean of the normal distribution that is truncated to these bounds.
        mask_ratio_sd (`float`, defaults to 0.25):
            Standard deviation of that normal distribution.
        condition_dropout (`float`, defaults to 0.1):
            Probability that training replaces a sample's condition by the null embedding (for guidance).
        dropout (`float`, defaults to 0.1):
            Dropout of attention weights and of the projections of attention and MLP, in training.
        layer_norm_eps (`float`, defaults to 1e-6):
            Epsilon of the layer normalisations.
        data_policy (`str`, *optional*):
            Of the data that the weights come from; not known = restricted.
    """

    model_type = "cpgg_mar"

    num_phenotypes: int = 82
    phenotype_mean: list[float | int] | None = None
    phenotype_sd: list[float | int] | None = None
    latent_channels: int = 16
    latent_size: list[int] | tuple[int, ...] = (25, 12, 12)
    patch_size: list[int] | tuple[int, ...] = (5, 2, 2)
    encoder_width: int = 768
    encoder_depth: int = 12
    decoder_width: int = 768
    decoder_depth: int = 12
    num_attention_heads: int = 12
    mlp_ratio: float | int = 4.0
    num_condition_tokens: int = 64
    condition_projection: str = "linear"
    head_type: str = "diffusion"
    head_width: int = 1024
    head_depth: int = 3
    num_train_timesteps: int = 1000
    timesteps_per_token: int = 4
    mask_ratio_minimum: float | int = 0.7
    mask_ratio_mean: float | int = 1.0
    mask_ratio_sd: float | int = 0.25
    condition_dropout: float | int = 0.1
    dropout: float | int = 0.1
    layer_norm_eps: float = 1e-6
    data_policy: str | None = None

    def __post_init__(self, **kwargs):
        self.latent_size, self.patch_size = tuple(self.latent_size), tuple(self.patch_size)
        if self.phenotype_mean is None or self.phenotype_sd is None:
            if self.phenotype_mean is None:
                self.phenotype_mean = [float(phenotype.mean) for phenotype in PHENOTYPES]
            if self.phenotype_sd is None:
                self.phenotype_sd = [float(phenotype.sd) for phenotype in PHENOTYPES]
        super().__post_init__(**kwargs)

    def validate_geometry(self):
        """Checks that the latents divide into patches and the widths into attention heads."""
        if len(self.latent_size) != 3 or len(self.patch_size) != 3:
            raise ValueError(
                f"latent_size {self.latent_size} and patch_size {self.patch_size} must each be frames, rows, columns."
            )
        if any(size % patch for size, patch in zip(self.latent_size, self.patch_size, strict=True)):
            raise ValueError(f"latent_size {self.latent_size} is not a multiple of patch_size {self.patch_size}.")
        for name in ("encoder_width", "decoder_width"):
            if getattr(self, name) % self.num_attention_heads:
                raise ValueError(
                    f"{name} {getattr(self, name)} is no multiple of the {self.num_attention_heads} attention heads."
                )
        if min(self.encoder_depth, self.decoder_depth, self.num_condition_tokens) < 1:
            raise ValueError("encoder_depth, decoder_depth and num_condition_tokens must be at least 1.")

    def validate_phenotype_scaler(self):
        """Checks that the scaler has one mean and one positive standard deviation a phenotype."""
        mean, sd = self.phenotype_mean or [], self.phenotype_sd or []
        if (len(mean), len(sd)) != (self.num_phenotypes, self.num_phenotypes):
            raise ValueError(
                f"phenotype_mean and phenotype_sd have {len(mean)} and {len(sd)} values; "
                f"num_phenotypes is {self.num_phenotypes}."
            )
        if min(sd) <= 0:
            raise ValueError(f"phenotype_sd must be positive; its smallest value is {min(sd)}.")

    def validate_choices(self):
        """Checks the values that are not free numbers."""
        if self.condition_projection not in ("linear", "mlp"):
            raise ValueError(f'condition_projection must be "linear" or "mlp", not {self.condition_projection!r}.')
        if self.head_type not in ("diffusion", "flow_matching"):
            raise ValueError(f'head_type must be "diffusion" or "flow_matching", not {self.head_type!r}.')
        if not 0 < self.mask_ratio_minimum < 1 or self.mask_ratio_sd <= 0:
            raise ValueError(
                f"mask_ratio_minimum must lie between 0 and 1 and mask_ratio_sd above 0; given "
                f"{self.mask_ratio_minimum} and {self.mask_ratio_sd}."
            )

    @property
    def grid_size(self) -> tuple[int, ...]:
        """Tokens along time, rows and columns."""
        return tuple(size // patch for size, patch in zip(self.latent_size, self.patch_size, strict=True))

    @property
    def num_tokens(self) -> int:
        """Tokens of one cine: 180 in the paper's configuration."""
        return math.prod(self.grid_size)

    @property
    def token_dim(self) -> int:
        """Numbers in one token: 320 in the paper's configuration."""
        return self.latent_channels * math.prod(self.patch_size)


# ---- cpgg_hf.models.token_diffusion


_TIME_CHANNELS = 256


_LAYER_NORM_EPS = 1e-6


_BIN_HALF_WIDTH = 1.0 / 255.0


_MODULATION_ELEMENTS = 2**24  # decoding precomputes modulations for as many steps as fit in so many numbers


# Shift and scale of a layer's normalised input, and a block's gate of its residual, each (..., width).
Modulation: TypeAlias = tuple[torch.Tensor, ...]


class AdaLNBlock(nn.Module):
    """Residual MLP whose normalised input is modulated and whose output is gated by timestep and condition."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=_LAYER_NORM_EPS)
        self.modulation = nn.Linear(width, 3 * width)
        self.linear_in = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)

    def modulate(self, embedding: torch.Tensor) -> Modulation:
        """Turns the activated embedding (..., width) of timestep and condition into shift, scale and gate."""
        shift, scale, gate = self.modulation(embedding).chunk(3, dim=-1)
        return shift, 1.0 + scale, gate

    def forward(
        self, hidden_states: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor, gate: torch.Tensor
    ) -> torch.Tensor:
        update = torch.addcmul(shift, self.norm(hidden_states), scale)
        update = self.linear_out(F.silu(self.linear_in(update)))
        return torch.addcmul(hidden_states, gate, update)


class AdaLNOutput(nn.Module):
    """Last layer: parameter-free normalisation, modulation, linear."""

    def __init__(self, width: int, out_channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=_LAYER_NORM_EPS, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.linear = nn.Linear(width, out_channels)

    def modulate(self, embedding: torch.Tensor) -> Modulation:
        """Turns the activated embedding (..., width) of timestep and condition into shift and scale."""
        shift, scale = self.modulation(embedding).chunk(2, dim=-1)
        return shift, 1.0 + scale

    def forward(self, hidden_states: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.addcmul(shift, self.norm(hidden_states), scale))


class TokenDiffusionHead(nn.Module):
    """Estimates the noise in a token and the variance of the reverse step, or a flow's velocity, from the vector `z`.

    Args:
        token_dim: numbers in a token, D.
        condition_width: width of `z`.
        width: width of the head.
        depth: number of residual blocks.
        num_train_timesteps: steps of the diffusion, or the timestep of pure noise in a flow.
        head_type: `"diffusion"` or `"flow_matching"`.
    """

    def __init__(
        self,
        token_dim: int,
        condition_width: int,
        width: int,
        depth: int,
        num_train_timesteps: int,
        head_type: str = "diffusion",
    ):
        super().__init__()
        self.head_type = head_type
        self.token_dim = token_dim
        self.width = width
        self.num_train_timesteps = num_train_timesteps
        self.time_embedding = nn.Sequential(nn.Linear(_TIME_CHANNELS, width), nn.SiLU(), nn.Linear(width, width))
        self.condition_projection = nn.Linear(condition_width, width)
        self.input_projection = nn.Linear(token_dim, width)
        self.blocks = nn.ModuleList(AdaLNBlock(width) for _ in range(depth))
        self.output = AdaLNOutput(width, 2 * token_dim if head_type == "diffusion" else token_dim)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.input_projection.weight.dtype

    def embed_timesteps(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Embeds timesteps (...) in [0, num_train_timesteps], integers or not, as (..., width).

        More integers than the diffusion has steps are looked up in a table, so that none is embedded twice.
        """
        if timesteps.numel() > self.num_train_timesteps and not timesteps.is_floating_point():
            all_timesteps = torch.arange(self.num_train_timesteps, device=timesteps.device)
            return F.embedding(timesteps, self.embed_timesteps(all_timesteps))
        half, dtype = _TIME_CHANNELS // 2, torch.promote_types(self.dtype, torch.float32)
        frequencies = torch.exp(torch.arange(half, device=timesteps.device, dtype=dtype) * (-math.log(10000.0) / half))
        angles = timesteps.to(dtype).unsqueeze(-1) * frequencies
        return self.time_embedding(torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.dtype))

    def modulations(self, embedding: torch.Tensor) -> list[Modulation]:
        """Turns the sum (..., width) of embedded timestep and projected condition into each layer's modulation."""
        activated = F.silu(embedding)
        return [layer.modulate(activated) for layer in (*self.blocks, self.output)]

    def denoise(self, hidden_states: torch.Tensor, modulations: Sequence[Modulation]) -> torch.Tensor:
        """Runs the blocks on the projected noisy tokens (..., width); returns what `forward` returns."""
        for block, modulation in zip(self.blocks, modulations[:-1], strict=True):
            hidden_states = block(hidden_states, *modulation)
        return self.output(hidden_states, *modulations[-1])

    def forward(self, noisy_tokens: torch.Tensor, timesteps: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Estimates noise and variance, or velocity.

        Args:
            noisy_tokens: (..., D).
            timesteps: (...), in [0, num_train_timesteps); a flow's may be any numbers up to num_train_timesteps.
            z: (..., condition_width), or any shape that broadcasts to it.

        Returns:
            Diffusion: (..., 2 D), the noise, then where the log-variance lies between its bounds, from -1 to 1.
            Flow matching: (..., D), the velocity from token to noise.
        """
        embedding = self.embed_timesteps(timesteps) + self.condition_projection(z.to(self.dtype))
        return self.denoise(self.input_projection(noisy_tokens.to(self.dtype)), self.modulations(embedding))


@cache
def cosine_betas(num_train_timesteps: int) -> np.ndarray:
    """The cosine schedule of improved diffusion, equation 17: (num_train_timesteps,) float64, at most 0.999."""
    ends = np.arange(num_train_timesteps + 1) / num_train_timesteps
    alphas_cumprod = np.cos((ends + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1.0 - alphas_cumprod[1:] / alphas_cumprod[:-1], 0.999)


class _LossTables(NamedTuple):
    """Per timestep, float32: how to add noise, and the terms of the divergence of true and modelled reverse step."""

    signal: torch.Tensor
    noise: torch.Tensor
    minimum_log_variance: torch.Tensor
    log_variance_range: torch.Tensor
    mean_weight: torch.Tensor


@cache
def _loss_tables(num_train_timesteps: int, device: torch.device) -> _LossTables:
    betas = cosine_betas(num_train_timesteps)
    alphas_cumprod = np.cumprod(1.0 - betas)
    previous = np.append(1.0, alphas_cumprod[:-1])
    variance = betas * (1.0 - previous) / (1.0 - alphas_cumprod)
    variance[0] = variance[1]
    # (coefficient of the noise error in the posterior mean)^2 / variance, simplified; t = 0 has a loss of its own
    mean_weight = np.append(0.0, betas[1:] / ((1.0 - betas[1:]) * (1.0 - previous[1:])))
    tables = (
        np.sqrt(alphas_cumprod),
        np.sqrt(1.0 - alphas_cumprod),
        np.log(variance),
        np.log(betas) - np.log(variance),
        mean_weight,
    )
    # The cache may first be filled under inference_mode; its tensors must serve training all the same.
    with torch.inference_mode(False):
        return _LossTables(*(torch.from_numpy(table.astype(np.float32)).to(device) for table in tables))


def _gaussian_cdf(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def _discretised_gaussian_log_likelihood(
    tokens: torch.Tensor, centred: torch.Tensor, log_scale: torch.Tensor
) -> torch.Tensor:
    """Log-probability of the 1/255 bin around each value; the bins at -1 and 1 reach to infinity."""
    below = _gaussian_cdf((centred + _BIN_HALF_WIDTH) * torch.exp(-log_scale))
    above = _gaussian_cdf((centred - _BIN_HALF_WIDTH) * torch.exp(-log_scale))
    probability = torch.where(tokens > 0.999, 1.0 - above, below - above)
    probability = torch.where(tokens < -0.999, below, probability)
    return probability.clamp(min=1e-12).log()


def token_diffusion_loss(
    head: TokenDiffusionHead, tokens: torch.Tensor, z: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared error of the noise and variational bound of each token (arXiv 2102.09672, equations 14-16).

    Schedule and bound are computed in float32 where the head has less, and give float32 (float64 for float64 tokens).

    Args:
        head: the denoising head.
        tokens: (..., D), clean; may broadcast.
        z: (..., condition_width); may broadcast.
        noise: (..., D), standard normal.
        timesteps: (...), integers in [0, num_train_timesteps).

    Returns:
        mean squared error (...) and variational bound in bits a dimension (...). Only the variance learns from the
        bound: the mean is detached there.
    """
    tables = _loss_tables(head.num_train_timesteps, timesteps.device)
    signal, sigma, minimum_log_variance, log_variance_range, mean_weight = (
        table[timesteps].unsqueeze(-1) for table in tables
    )
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    tokens, noise = tokens.to(dtype), noise.to(dtype)
    output = head(signal * tokens + sigma * noise, timesteps, z).to(dtype)
    noise_estimate, variance_value = output.split(head.token_dim, dim=-1)
    error = noise_estimate - noise
    squared_error = error.square()
    mse = squared_error.mean(dim=-1)

    # With the model's variance e^d times the posterior's, and both means apart by the noise error alone,
    # KL = (d - 1 + e^-d (1 + weight error^2)) / 2.
    log_ratio = 0.5 * (variance_value + 1.0) * log_variance_range
    divergence = log_ratio + torch.expm1(-log_ratio) + torch.exp(-log_ratio) * (mean_weight * squared_error.detach())
    bound = 0.5 * divergence.mean(dim=-1)

    first = timesteps == 0  # the last reverse step has a likelihood instead
    tokens, error = tokens.expand_as(error)[first], error[first].detach()
    log_scale = 0.5 * (minimum_log_variance[first] + log_ratio[first])
    centred = (sigma[first] / signal[first]) * error
    likelihood = _discretised_gaussian_log_likelihood(tokens, centred, log_scale).mean(dim=-1)
    bound = bound.masked_scatter(first, -likelihood)
    return mse, bound / math.log(2.0)


def token_flow_loss(
    head: TokenDiffusionHead, tokens: torch.Tensor, z: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """Mean squared error of the velocity on straight paths from token to noise (arXiv 2210.02747, equation 23).

    Computed in float32 where the head has less.

    Args:
        head: the head, of the type `"flow_matching"`.
        tokens: (..., D), clean; may broadcast.
        z: (..., condition_width); may broadcast.
        noise: (..., D), standard normal.
        timesteps: (...), in [0, num_train_timesteps]: the share of noise times num_train_timesteps.

    Returns:
        (...).
    """
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    tokens, noise = tokens.to(dtype), noise.to(dtype)
    share = (timesteps.to(dtype) / head.num_train_timesteps).unsqueeze(-1)
    velocity = head(torch.lerp(tokens, noise, share), timesteps, z).to(dtype)
    return (velocity - (noise - tokens)).square().mean(dim=-1)


def check_scheduler(head_type: str, scheduler: Any) -> None:
    """Refuses a scheduler that would take a head's velocity for noise, or its noise for a velocity.

    diffusers' flow-matching schedulers have no `prediction_type`; others that can follow a flow name it there.

    Raises:
        ValueError: it would.
    """
    # The signature says it: a configuration may hold what another class of scheduler left there.
    has_prediction_type = "prediction_type" in inspect.signature(type(scheduler).__init__).parameters
    follows_flow = not has_prediction_type or scheduler.config.prediction_type == "flow_prediction"
    if follows_flow != (head_type == "flow_matching"):
        remedy = "FlowMatchEulerDiscreteScheduler" if head_type == "flow_matching" else "CPGGDDPMScheduler"
        raise ValueError(
            f"{type(scheduler).__name__} {'follows a flow' if follows_flow else 'removes noise'}, but the MAR's head "
            f"is of the type {head_type!r}; use a scheduler such as {remedy}."
        )


def begin_chain(head_type: str, scheduler: Any, num_inference_steps: int) -> None:
    """Sets a scheduler's timesteps anew (multi-step schedulers keep a history); those of a flow are equal steps.

    By default diffusers would spend the last of a flow's steps on the last thousandth of the way.
    """
    if head_type == "flow_matching" and "sigmas" in inspect.signature(scheduler.set_timesteps).parameters:
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps).tolist())
    else:
        scheduler.set_timesteps(num_inference_steps)


@torch.no_grad()
def sample_tokens(
    head: TokenDiffusionHead,
    z: torch.Tensor,
    noise: torch.Tensor,
    scheduler: Any,
    generators: Sequence[torch.Generator | None],
    guidance_scale: float = 1.0,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Draws tokens by the reverse diffusion chain of `scheduler`, whose timesteps must have been set.

    What depends on timestep and condition only (over half of the arithmetic) is computed for many steps at once.

    Args:
        head: the denoising head.
        z: (B, n, condition_width), or (2 B, n, condition_width) for guidance: conditional, then unconditional.
        noise: (B, n, D) float32, where the chains start.
        scheduler: a diffusers scheduler that fits the head's type. `CPGGDDPMScheduler` gets noise estimate and
            variance, any other one the noise estimate or the velocity alone.
        generators: one a sample; all randomness of a sample comes from its own.
        guidance_scale: constant scale of the guidance of the estimate; the variance is the conditional one.
        temperature: scale of the noise that each step adds; only `CPGGDDPMScheduler` knows one other than 1.

    Returns:
        (B, n, D) float32.
    """
    check_scheduler(head.head_type, scheduler)
    batch_size, num_tokens, token_dim = noise.shape
    timesteps, device = scheduler.timesteps, z.device
    accepted = inspect.signature(scheduler.step).parameters
    learned_variance = "temperature" in accepted
    options: dict[str, Any] = {}
    if learned_variance:
        shape = (len(timesteps), num_tokens, token_dim)
        drawn = [torch.randn(shape, generator=g, device="cpu" if g is None else g.device) for g in generators]
        variance_noise = torch.stack([noise_of_sample.to(device) for noise_of_sample in drawn], dim=1).transpose(2, 3)
        options["temperature"] = temperature
    elif temperature != 1.0:
        raise ValueError(
            f"{type(scheduler).__name__} has no temperature (given {temperature}): use CPGGDDPMScheduler, or 1.0."
        )
    elif "generator" in accepted and None not in generators:
        options["generator"] = generators

    condition = head.condition_projection(z.to(head.dtype))
    times = head.embed_timesteps(timesteps.to(device))[:, None, None]
    steps_at_once = max(1, _MODULATION_ELEMENTS // (condition.numel() * (3 * len(head.blocks) + 2)))
    sample = noise.transpose(1, 2)  # (B, D, n): a list of generators needs the batch in front
    for index, timestep in enumerate(timesteps):
        if index % steps_at_once == 0:
            modulations = head.modulations(times[index : index + steps_at_once] + condition)
            per_step = zip(
                *(zip(*(part.unbind() for part in layer), strict=True) for layer in modulations), strict=True
            )
        model_input = sample
        if hasattr(scheduler, "scale_model_input"):  # flow-matching schedulers have none
            model_input = scheduler.scale_model_input(sample, timestep)
        hidden_states = head.input_projection(model_input.transpose(1, 2).to(head.dtype))
        if z.shape[0] == 2 * batch_size:
            hidden_states = torch.cat([hidden_states, hidden_states])
        output = head.denoise(hidden_states, next(per_step)).float()
        estimate, variance_value = output[..., :token_dim], output[..., token_dim:]
        if z.shape[0] == 2 * batch_size:
            estimate, unconditional = estimate.chunk(2)
            estimate, variance_value = torch.lerp(unconditional, estimate, guidance_scale), variance_value[:batch_size]
        if learned_variance:
            estimate = torch.cat([estimate, variance_value], dim=-1)
            options["variance_noise"] = variance_noise[index]
        sample = scheduler.step(estimate.transpose(1, 2), timestep, sample, return_dict=False, **options)[0]
    return sample.transpose(1, 2)


# ---- cpgg_hf.models.modeling_cpgg_mar


@dataclass
class CPGGMAROutput(ModelOutput):
    """What `CPGGMARModel` returns.

    Args:
        loss (`torch.Tensor`, *optional*): mean over the chosen tokens of `loss_mse + loss_vlb`, at least float32.
        loss_mse (`torch.Tensor`, *optional*): mean squared error of the noise estimate, or of a flow's velocity.
        loss_vlb (`torch.Tensor`, *optional*): variational bound in bits a dimension; a flow has none.
        z (`torch.Tensor`): (B, n, decoder_width), what conditions the head for each chosen token.
        positions (`torch.LongTensor`): (B, n), which tokens those are.
    """

    loss: torch.Tensor | None = None
    loss_mse: torch.Tensor | None = None
    loss_vlb: torch.Tensor | None = None
    z: torch.Tensor | None = None
    positions: torch.Tensor | None = None


def decoding_schedule(num_tokens: int, num_decoding_steps: int) -> list[int]:
    """How many tokens each decoding step draws: few at first, many at last (cosine), at least one; they sum to all.

    With as many steps as tokens every step draws one.
    """
    if not 1 <= num_decoding_steps <= num_tokens:
        raise ValueError(f"num_decoding_steps must lie between 1 and {num_tokens} tokens, not {num_decoding_steps}.")
    remaining = num_tokens
    drawn = []
    for step in range(1, num_decoding_steps):
        masked = min(math.floor(num_tokens * math.cos(math.pi / 2 * step / num_decoding_steps)), remaining - 1)
        drawn.append(remaining - masked)
        remaining = masked
    return [*drawn, remaining]


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _attention_mask: None,
    scaling: float,
    dropout: float = 0.0,
    **_kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain attention, for `attn_implementation="eager"`: (B, heads, N, d) -> (B, N, heads, d), weights."""
    weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    weights = F.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def _take_rows(hidden_states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Takes row `positions[b, i]` of each sample: (B, N, D), (B, n) -> (B, n, D)."""
    return (
        hidden_states.flatten(0, 1)
        .index_select(0, _flat(positions, hidden_states.shape[1]))
        .unflatten(0, positions.shape)
    )


def _flat(positions: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Row numbers (B n,) in a batch of sequences laid end to end."""
    starts = torch.arange(positions.shape[0], device=positions.device).unsqueeze(1) * num_rows
    return (positions + starts).flatten()


class CPGGMARAttention(nn.Module):
    """Bidirectional multi-head attention, optionally from some of the tokens only."""

    def __init__(self, config: CPGGMARConfig, width: int):
        super().__init__()
        self.config = config
        self.head_dim = width // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.dropout = config.dropout
        self.is_causal = False
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, hidden_states: torch.Tensor, query_states: torch.Tensor) -> torch.Tensor:
        """Attends from `query_states` (B, n, width) to `hidden_states` (B, N, width); returns (B, n, width)."""
        query, key, value = (
            projection(states).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projection, states in (
                (self.query, query_states),
                (self.key, hidden_states),
                (self.value, hidden_states),
            )
        )
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        attended, _ = attention(
            self, query, key, value, None, dropout=self.dropout if self.training else 0.0, scaling=self.scaling
        )
        return self.output(attended.flatten(2))


class CPGGMARLayer(GradientCheckpointingLayer):
    """Pre-norm transformer layer: attention, then MLP with exact GELU.

    Args:
        config: the model's configuration.
        width: of this layer.
    """

    def __init__(self, config: CPGGMARConfig, width: int):
        super().__init__()
        hidden_width = int(width * config.mlp_ratio)
        self.attention_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.attention = CPGGMARAttention(config, width)
        self.mlp_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp_in = nn.Linear(width, hidden_width)
        self.mlp_out = nn.Linear(hidden_width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden_states: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        """Maps (B, N, width) to the same, or to the rows at `positions` (B, n) alone: (B, n, width)."""
        normalised = self.attention_norm(hidden_states)
        queries = normalised
        if positions is not None:
            queries, hidden_states = _take_rows(normalised, positions), _take_rows(hidden_states, positions)
        hidden_states = hidden_states + self.dropout(self.attention(normalised, queries))
        update = self.dropout(F.gelu(self.mlp_in(self.mlp_norm(hidden_states))))
        return hidden_states + self.dropout(self.mlp_out(update))


class CPGGMARModel(PreTrainedModel):  # type: ignore[misc]
    r"""
    Phenotypes to cine latents: masked autoregressive transformer with a diffusion (or flow-matching) loss a token.

    This model inherits from [`~transformers.PreTrainedModel`]: see there for loading, saving, devices and dtypes.
    `forward` trains it or gives the vectors `z`; `generate_latents` draws latents.

    Args:
        config ([`CPGGMARConfig`]): the configuration; its defaults are the paper's.
    """

    config_class = CPGGMARConfig
    base_model_prefix = "mar"
    main_input_name = "latents"
    supports_gradient_checkpointing = True
    _no_split_modules = ["CPGGMARLayer", "AdaLNBlock"]  # noqa: RUF012 - declared so by the base class
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _input_embed_layer = "token_projection"

    def __init__(self, config: CPGGMARConfig):
        super().__init__(config)
        encoder_width, decoder_width = config.encoder_width, config.decoder_width
        sequence_length = config.num_condition_tokens + config.num_tokens

        layers: list[nn.Module] = [nn.Linear(config.num_phenotypes, encoder_width)]
        if config.condition_projection == "mlp":
            layers += [nn.SiLU(), nn.Linear(encoder_width, encoder_width)]
        self.condition_projection = nn.Sequential(*layers)
        self.missing_phenotype_embedding = nn.Parameter(torch.empty(config.num_phenotypes, encoder_width))
        self.null_condition_embedding = nn.Parameter(torch.empty(encoder_width))

        self.token_projection = nn.Linear(config.token_dim, encoder_width)
        self.encoder_position_embedding = nn.Parameter(torch.empty(sequence_length, encoder_width))
        self.embedding_norm = nn.LayerNorm(encoder_width, eps=config.layer_norm_eps)
        self.encoder_layers = nn.ModuleList(CPGGMARLayer(config, encoder_width) for _ in range(config.encoder_depth))
        self.encoder_norm = nn.LayerNorm(encoder_width, eps=config.layer_norm_eps)

        self.decoder_projection = nn.Linear(encoder_width, decoder_width)
        self.mask_token = nn.Parameter(torch.empty(decoder_width))
        self.decoder_position_embedding = nn.Parameter(torch.empty(sequence_length, decoder_width))
        self.decoder_layers = nn.ModuleList(CPGGMARLayer(config, decoder_width) for _ in range(config.decoder_depth))
        self.decoder_norm = nn.LayerNorm(decoder_width, eps=config.layer_norm_eps)

        self.diffusion_position_embedding = nn.Parameter(torch.empty(config.num_tokens, decoder_width))
        self.diffusion_head = TokenDiffusionHead(
            config.token_dim,
            decoder_width,
            config.head_width,
            config.head_depth,
            config.num_train_timesteps,
            config.head_type,
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialises one module as published: Xavier, zeros where a layer must start as the identity."""
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, TokenDiffusionHead):
            for layer in module.time_embedding.children():
                if isinstance(layer, nn.Linear):
                    init.normal_(layer.weight, std=0.02)
            init.zeros_(module.output.linear.weight)
        elif isinstance(module, AdaLNBlock | AdaLNOutput):
            init.zeros_(module.modulation.weight)
        elif isinstance(module, CPGGMARModel):
            init.zeros_(module.missing_phenotype_embedding)
            for name, parameter in module.named_parameters(recurse=False):
                if name != "missing_phenotype_embedding":
                    init.normal_(parameter, std=0.02)
        else:
            super()._init_weights(module)

    def load_adapter(  # type: ignore[override]
        self, peft_model_id: str | None = None, adapter_name: str | None = None, **kwargs: Any
    ) -> LoadStateDictInfo:
        """Puts a PEFT adapter onto the model; see [`~transformers.PreTrainedModel.load_adapter`].

        From then on the model has the stricter data policy of the two, also when the adapter is removed again, as it
        may have been merged; one that says nothing of its policy is restricted.

        Args:
            peft_model_id: folder or hub repository that `save_pretrained` or `push_to_hub` of an adapted model wrote.
            adapter_name: `"default"` by default.
            kwargs: as there.

        Raises:
            ValueError: the adapter belongs to another network, or some of its tensors are missing. (transformers only
                warns, and leaves what is missing as it was drawn.)
        """
        info = super().load_adapter(peft_model_id, adapter_name, ignore_mismatched_sizes=True, **kwargs)
        wrong = {*info.missing_keys, *info.unexpected_keys, *(key[0] for key in info.mismatched_keys)}
        if wrong:
            self.delete_adapter(adapter_name or "default")
            raise ValueError(
                f"{peft_model_id} does not fit this MAR: {len(wrong)} tensors, such as {min(wrong)!r}, are missing, "
                "superfluous or of another shape; load it onto the network that it was trained beside."
            )
        load_config = kwargs.get("load_config")
        hub = {**(load_config.download_kwargs if load_config else {}), **(kwargs.get("adapter_kwargs") or {})}
        self.config.data_policy = strictest([self.config.data_policy, policy_of_adapter(peft_model_id, **hub)])
        return info

    def delete_adapter(self, adapter_names: list[str] | str) -> None:
        """Removes adapters; with the last one the network is as it was, and is saved whole again.

        (transformers leaves PEFT's layers in place and goes on to save by PEFT's names, which nothing could load.)
        """
        super().delete_adapter(adapter_names)
        if not self._hf_peft_config_loaded:
            adapted = [(name, module) for name, module in self.named_modules() if hasattr(module, "base_layer")]
            for name, module in adapted:
                self.set_submodule(name, module.base_layer)
            self._weight_conversions: list[Any] = []

    def patchify(self, latents: torch.Tensor) -> torch.Tensor:
        """Cuts latents (B, C, T', H', W') into tokens (B, L, D) in the order t, h, w, each flattened channel first."""
        expected = (self.config.latent_channels, *self.config.latent_size)
        if tuple(latents.shape[1:]) != expected:
            raise ValueError(
                f"latents must have shape (B, {', '.join(map(str, expected))}), as in the model's config; "
                f"given {tuple(latents.shape)}."
            )
        patches = latents
        for axis, patch in enumerate(self.config.patch_size):
            patches = patches.unflatten(2 + 2 * axis, (-1, patch))
        # (B, C, T, t, H, h, W, w) -> (B, T, H, W, C, t, h, w)
        return patches.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)

    def unpatchify(self, tokens: torch.Tensor) -> torch.Tensor:
        """Puts tokens (B, L, D) together to latents (B, C, T', H', W'), the inverse of `patchify`."""
        config = self.config
        patches = tokens.unflatten(1, config.grid_size).unflatten(4, (config.latent_channels, *config.patch_size))
        # (B, T, H, W, C, t, h, w) -> (B, C, T, t, H, h, W, w)
        patches = patches.permute(0, 4, 1, 5, 2, 6, 3, 7)
        return patches.reshape(tokens.shape[0], config.latent_channels, *config.latent_size)

    def draw_mask(
        self, batch_size: int, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """Draws a training mask (B, L), True = masked: one ratio for the batch, an order a sample.

        The ratio follows the configured normal distribution truncated to [mask_ratio_minimum, 1].
        """
        source = "cpu" if generator is None else generator.device
        ratio = torch.rand((), generator=generator, device=source, dtype=torch.float64).item()
        order = torch.rand((batch_size, self.config.num_tokens), generator=generator, device=source)
        return self.mask_of(ratio, order).to(device)

    def mask_of(self, ratio: float, order: torch.Tensor) -> torch.Tensor:
        """The training mask (B, L), True = masked, that uniform draws stand for.

        Args:
            ratio: in [0, 1), where the share of masked tokens lies in its distribution.
            order: (B, L); the tokens with the smallest values are masked.
        """
        mask = torch.zeros_like(order, dtype=torch.bool)
        return mask.scatter(1, order.argsort(dim=1)[:, : self.num_masked(self.config, ratio)], True)

    @staticmethod
    def num_masked(config: Any, ratio: float) -> int:
        """How many tokens are masked where a uniform draw in [0, 1) puts the share in its truncated distribution."""
        distribution = NormalDist(config.mask_ratio_mean, config.mask_ratio_sd)
        lower, upper = distribution.cdf(config.mask_ratio_minimum), distribution.cdf(1.0)
        share = max(distribution.inv_cdf(lower + (upper - lower) * ratio), config.mask_ratio_minimum)
        return min(math.ceil(config.num_tokens * share), config.num_tokens)

    def embed_phenotypes(self, phenotypes: torch.Tensor, drop_condition: torch.Tensor | None = None) -> torch.Tensor:
        """Embeds phenotypes in physical units as the condition.

        Args:
            phenotypes: (B, num_phenotypes), float32 or float64; NaN = missing. Standardised in that precision.
            drop_condition: (B,) bool, where the null embedding takes the condition's place.

        Returns:
            (B, encoder_width).
        """
        if phenotypes.ndim != 2 or phenotypes.shape[1] != self.config.num_phenotypes:
            raise ValueError(
                f"phenotypes must have shape (B, {self.config.num_phenotypes}); given {tuple(phenotypes.shape)}."
            )
        dtype = torch.promote_types(phenotypes.dtype, torch.float32)
        mean, sd = (
            torch.tensor(values, dtype=dtype, device=phenotypes.device)
            for values in (self.config.phenotype_mean, self.config.phenotype_sd)
        )
        with torch.autocast(phenotypes.device.type, enabled=False):  # bfloat16 would round the phenotypes themselves
            standardised = (phenotypes.to(dtype) - mean) / sd
            missing = standardised.isnan()
            weight_dtype = self.missing_phenotype_embedding.dtype
            condition = self.condition_projection(standardised.masked_fill(missing, 0.0).to(weight_dtype))
            condition = condition + missing.to(weight_dtype) @ self.missing_phenotype_embedding
        if drop_condition is None:
            drop_condition = missing.new_zeros(missing.shape[0])
        # Blended, so that the null embedding takes part in every training step, as DDP demands.
        return torch.where(drop_condition.bool().unsqueeze(1), self.null_condition_embedding, condition)

    def encode(self, tokens: torch.Tensor, visible: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Encodes condition and visible tokens.

        Args:
            tokens: (B, L, D).
            visible: (B, v), positions of the visible tokens.
            condition: (B, encoder_width).

        Returns:
            (B, num_condition_tokens + v, encoder_width), the condition tokens first.
        """
        num_condition_tokens = self.config.num_condition_tokens
        position_embedding = self.encoder_position_embedding
        hidden_states = self.token_projection(_take_rows(tokens, visible).to(self.token_projection.weight.dtype))
        hidden_states = hidden_states + F.embedding(visible + num_condition_tokens, position_embedding)
        condition_tokens = condition.unsqueeze(1) + position_embedding[:num_condition_tokens]
        hidden_states = self.embedding_norm(torch.cat([condition_tokens, hidden_states], dim=1))
        for layer in self.encoder_layers:
            hidden_states = layer(hidden_states)
        return self.encoder_norm(hidden_states)

    def decode(self, encoded: torch.Tensor, visible: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Decodes the tokens at some positions from the encoded visible ones.

        Args:
            encoded: (B, num_condition_tokens + v, encoder_width), from `encode`.
            visible: (B, v), positions of the visible tokens.
            positions: (B, n), positions of the tokens that are wanted.

        Returns:
            (B, n, decoder_width); `z` lacks its position embedding still.
        """
        num_condition_tokens, num_tokens = self.config.num_condition_tokens, self.config.num_tokens
        hidden_states = self.decoder_projection(encoded).to(self.mask_token.dtype)
        condition_tokens, seen = hidden_states[:, :num_condition_tokens], hidden_states[:, num_condition_tokens:]
        hidden_states = self.mask_token.expand(encoded.shape[0] * num_tokens, -1)
        hidden_states = hidden_states.index_copy(0, _flat(visible, num_tokens), seen.flatten(0, 1))
        hidden_states = torch.cat([condition_tokens, hidden_states.unflatten(0, (-1, num_tokens))], dim=1)
        hidden_states = hidden_states + self.decoder_position_embedding
        for layer in self.decoder_layers[:-1]:
            hidden_states = layer(hidden_states)
        # No later layer attends to the others' output.
        hidden_states = self.decoder_layers[-1](hidden_states, positions + num_condition_tokens)
        return self.decoder_norm(hidden_states)

    def forward(
        self,
        latents: torch.Tensor,
        phenotypes: torch.Tensor,
        mask: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        drop_condition: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
        timesteps: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        return_loss: bool = True,
    ) -> CPGGMAROutput:
        r"""
        One training step's loss, or (`return_loss=False`) the vectors `z` alone. What is not given is drawn.

        Args:
            latents (`torch.Tensor`): standardised latents (B, C, T', H', W'), or their tokens (B, L, D).
            phenotypes (`torch.Tensor`): (B, num_phenotypes) in physical units, float32 or float64; NaN = missing.
            mask (`torch.Tensor`, *optional*): (B, L), nonzero = masked; as many in each sample. Drawn by `draw_mask`.
                One on the CPU spares a wait for the device.
            positions (`torch.LongTensor`, *optional*): (B, n), the tokens to predict; the masked ones by default, in
                sequence order.
            drop_condition (`torch.Tensor`, *optional*): (B,), where the null embedding replaces the condition. Drawn
                with probability `condition_dropout` in training, nowhere in evaluation.
            noise (`torch.Tensor`, *optional*): (B, timesteps_per_token, n, D), the noise of the diffusion loss.
            timesteps (`torch.Tensor`, *optional*): (B, timesteps_per_token, n), its timesteps: integers below
                `num_train_timesteps`, for a flow any numbers from 0 to it.
            generator (`torch.Generator`, *optional*): where draws come from.
            return_loss (`bool`, defaults to `True`): whether to compute the loss.

        Returns:
            [`CPGGMAROutput`].
        """
        tokens = self.patchify(latents) if latents.ndim == 5 else latents
        expected = (phenotypes.shape[0], self.config.num_tokens, self.config.token_dim)
        if tuple(tokens.shape) != expected:
            raise ValueError(
                f"latents of shape {tuple(latents.shape)} do not fit: for {expected[0]} rows of phenotypes this model "
                f"takes latents {(expected[0], self.config.latent_channels, *self.config.latent_size)} or tokens "
                f"{expected}."
            )
        batch_size, device = tokens.shape[0], tokens.device

        def draw(function: Callable[..., torch.Tensor], *arguments: Any, **options: Any) -> torch.Tensor:
            source = device if generator is None else generator.device
            return function(*arguments, generator=generator, device=source, **options).to(device)

        if mask is None:
            mask = self.draw_mask(batch_size, generator, device)
        visible, masked = (part.to(device) for part in self._split_positions(mask))
        if positions is None:
            positions = masked
        if drop_condition is None and self.training:
            drop_condition = draw(torch.rand, batch_size) < self.config.condition_dropout

        condition = self.embed_phenotypes(phenotypes, drop_condition)
        z = self.decode(self.encode(tokens, visible, condition), visible, positions)
        z = z + F.embedding(positions, self.diffusion_position_embedding)
        if not return_loss:
            return CPGGMAROutput(z=z, positions=positions)

        shape = (batch_size, self.config.timesteps_per_token, positions.shape[1])
        flow = self.config.head_type == "flow_matching"
        if timesteps is None and flow:
            timesteps = self.config.num_train_timesteps * draw(torch.rand, shape)
        elif timesteps is None:
            timesteps = draw(torch.randint, self.config.num_train_timesteps, shape)
        if noise is None:
            noise = draw(torch.randn, (*shape, self.config.token_dim))
        targets = _take_rows(tokens, positions)
        drawn = (targets.unsqueeze(1), z.unsqueeze(1), noise, timesteps)
        if flow:
            loss = token_flow_loss(self.diffusion_head, *drawn).mean()
            return CPGGMAROutput(loss=loss, loss_mse=loss, z=z, positions=positions)
        mse, vlb = token_diffusion_loss(self.diffusion_head, *drawn)
        loss_mse, loss_vlb = mse.mean(), vlb.mean()
        return CPGGMAROutput(loss=loss_mse + loss_vlb, loss_mse=loss_mse, loss_vlb=loss_vlb, z=z, positions=positions)

    def _split_positions(self, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions of the visible and of the masked tokens, each in sequence order: (B, v), (B, L - v)."""
        mask = mask.bool()
        num_masked = mask.sum(dim=1)
        if (num_masked != num_masked[0]).any():
            raise ValueError(f"mask must hide as many tokens in each sample; it hides {num_masked.tolist()}.")
        ranks = mask.long().argsort(dim=1, stable=True)
        num_visible = mask.shape[1] - int(num_masked[0])
        return ranks[:, :num_visible], ranks[:, num_visible:]

    @torch.no_grad()
    def generate_latents(
        self,
        phenotypes: torch.Tensor,
        scheduler: Any,
        num_decoding_steps: int = 16,
        num_inference_steps: int = 100,
        guidance_scale: float = 1.0,
        temperature: float = 1.0,
        generators: list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        callback: Callable[[int, torch.Tensor], torch.Tensor | None] | None = None,
    ) -> torch.Tensor:
        r"""
        Draws latents by iterative decoding: a random order a sample, a cosine schedule, a diffusion chain a token.

        All randomness of sample i comes from `generators[i]`.

        Args:
            phenotypes (`torch.Tensor`): (B, num_phenotypes) in physical units, NaN = missing; their device works.
            scheduler: a diffusers scheduler; see `sample_tokens`.
            num_decoding_steps (`int`, defaults to 16): passes of the transformer, at most one a token.
            num_inference_steps (`int`, defaults to 100): diffusion steps a token.
            guidance_scale (`float`, defaults to 1.0): 1 = no guidance, 0 = unconditional.
            temperature (`float`, defaults to 1.0): scale of the noise added in the diffusion steps.
            generators (`list[torch.Generator]`, *optional*): one a sample; torch's own by default.
            latents (`torch.Tensor`, *optional*): (B, C, T', H', W'), the noise that the diffusion starts from.
            callback (`Callable`, *optional*): called after each decoding step with its number and the latents so far
                (zero where nothing has been drawn); latents that it returns replace them.

        Returns:
            (B, C, T', H', W') float32, standardised.
        """
        config, device, batch_size = self.config, phenotypes.device, phenotypes.shape[0]
        sources = [None] * batch_size if generators is None else generators
        if len(sources) != batch_size:
            raise ValueError(f"generators must be one a sample: given {len(sources)} for {batch_size} samples.")
        token_counts = decoding_schedule(config.num_tokens, num_decoding_steps)

        def draw(function: Callable[..., torch.Tensor], argument: Any) -> torch.Tensor:
            drawn = [function(argument, generator=g, device="cpu" if g is None else g.device) for g in sources]
            return torch.stack([sample.to(device) for sample in drawn])

        orders = draw(torch.randperm, config.num_tokens)
        if latents is None:
            latents = draw(torch.randn, (config.latent_channels, *config.latent_size))
        start = self.patchify(latents.to(device, torch.float32))

        guided = guidance_scale not in (0.0, 1.0)
        if guided:
            drop_condition = torch.arange(2 * batch_size, device=device) >= batch_size
            phenotypes = phenotypes.repeat(2, 1)
        else:
            drop_condition = torch.full((batch_size,), guidance_scale == 0.0, device=device)

        tokens = torch.zeros_like(start)
        mask = torch.ones(start.shape[:2], dtype=torch.bool, device=device)
        num_masked = config.num_tokens
        for step, count in enumerate(token_counts):
            positions = orders[:, num_masked - count : num_masked]
            num_masked -= count
            repeats = (2, 1) if guided else (1, 1)
            z = self(
                tokens.repeat(*repeats, 1),
                phenotypes,
                mask=mask.repeat(repeats),
                positions=positions.repeat(repeats),
                drop_condition=drop_condition,
                return_loss=False,
            ).z
            begin_chain(config.head_type, scheduler, num_inference_steps)
            noise = _take_rows(start, positions) * getattr(scheduler, "init_noise_sigma", 1.0)
            drawn = sample_tokens(self.diffusion_head, z, noise, scheduler, sources, guidance_scale, temperature)
            tokens = tokens.scatter(1, positions.unsqueeze(-1).expand_as(drawn), drawn)
            mask = mask.scatter(1, positions, False)
            if callback is not None:
                replaced = callback(step, self.unpatchify(tokens))
                if replaced is not None:
                    tokens = self.patchify(replaced)
        return self.unpatchify(tokens)


# ---- cpgg_hf.phenotypes.coordinates


# The phenotypes themselves and three quantities that tie the aortic ones together.
COORDINATES: tuple[str, ...] = (*NAMES, "AAo_area_change", "DAo_area_change", "pulse_pressure")


AREA_CHANGES = (len(NAMES), len(NAMES) + 1)


PULSE_PRESSURE = len(NAMES) + 2


_CHAMBER_AND_AORTA = frozenset(index for group in (*CHAMBERS, *AORTAS) for index in group)


_PLAIN = tuple(index for index in range(len(NAMES)) if index not in _CHAMBER_AND_AORTA)


_FRACTIONS = np.array([chamber[3] for chamber in CHAMBERS])


_STRAINS = np.array([index for index, name in enumerate(NAMES) if name.startswith(("Ecc", "Err", "Ell"))])


_POSITIVE = np.setdiff1d(np.arange(len(COORDINATES)), np.concatenate([_FRACTIONS, _STRAINS]))


_SHORTENING = np.array([index for index in _STRAINS if PHENOTYPES[index].maximum <= 0])


_THICKENING = np.setdiff1d(_STRAINS, _SHORTENING)


Chart = tuple[int, ...]


def to_coordinates(array: np.ndarray) -> np.ndarray:
    """All coordinates of (B, 82) phenotypes in physical units: (B, 85), NaN where they are not determined."""
    changes = [array[:, largest] / array[:, smallest] - 1 for largest, smallest, _ in AORTAS]
    return np.column_stack([array, *changes, pulse_pressure(array)])


def to_unbounded(coordinates: np.ndarray) -> np.ndarray:
    """(B, 85) coordinates on the whole real line: logarithms, logits of EF, strains as they are."""
    result = np.array(coordinates, dtype=np.float64)
    result[:, _POSITIVE] = np.log(result[:, _POSITIVE])
    result[:, _FRACTIONS] = np.log(result[:, _FRACTIONS] / (100 - result[:, _FRACTIONS]))
    return result


def from_unbounded(unbounded: np.ndarray) -> np.ndarray:
    """Inverse of `to_unbounded`; strains on the wrong side of zero become zero."""
    result = np.array(unbounded, dtype=np.float64)
    result[:, _POSITIVE] = np.exp(result[:, _POSITIVE])
    result[:, _FRACTIONS] = 100 / (1 + np.exp(-result[:, _FRACTIONS]))
    result[:, _SHORTENING] = np.minimum(result[:, _SHORTENING], 0)
    result[:, _THICKENING] = np.maximum(result[:, _THICKENING], 0)
    return result


def all_charts() -> Iterator[Chart]:
    """Every chart that `chart_for` can choose, the default one first."""
    ascending, descending = AORTAS
    pressures = (
        (*AREA_CHANGES, PULSE_PRESSURE),
        (*AREA_CHANGES, ascending[2]),
        (*AREA_CHANGES, descending[2]),
        (AREA_CHANGES[0], ascending[2], descending[2]),
        (AREA_CHANGES[1], ascending[2], descending[2]),
    )
    sizes = product(*(chamber[:3] for chamber in CHAMBERS), ascending[1::-1], descending[1::-1])
    for size, pressure in product(sizes, pressures):
        yield _chart((*size, *pressure))


def chart_for(phenotypes: np.ndarray) -> tuple[Chart, np.ndarray]:
    """The chart that has everything a request fixes among its coordinates.

    Args:
        phenotypes: (82,), NaN = free, completed by `complete_identities`.

    Returns:
        the chart, and the (85,) coordinates with NaN for those that are free.
    """
    fixed = to_coordinates(phenotypes[None])[0]
    known = np.isfinite(fixed)
    for largest, smallest, _, fraction in CHAMBERS:
        # Of redundant values that agree within rounding the volumes hold.
        if known[largest] and known[smallest]:
            fixed[fraction] = 100 * (fixed[largest] - fixed[smallest]) / fixed[largest]
    chosen = [_first_known(known, chamber[:3]) for chamber in CHAMBERS]
    chosen += [_first_known(known, aorta[1::-1]) for aorta in AORTAS]
    distensibilities = [aorta[2] for aorta in AORTAS]
    if not known[PULSE_PRESSURE] and known[distensibilities].all():
        # Both distensibilities and at most one area change: the pulse pressure follows from the area change drawn.
        return _chart((*chosen, AREA_CHANGES[int(known[AREA_CHANGES[1]])], *distensibilities)), fixed
    if known[PULSE_PRESSURE]:
        for change, distensibility in zip(AREA_CHANGES, distensibilities, strict=True):
            if known[distensibility] and not known[change]:
                fixed[change] = fixed[distensibility] * fixed[PULSE_PRESSURE] / 1000
    tie = PULSE_PRESSURE
    if not known[PULSE_PRESSURE]:
        tie = next((index for index in distensibilities if known[index]), PULSE_PRESSURE)
    return _chart((*chosen, *AREA_CHANGES, tie)), fixed


def from_chart(coordinates: np.ndarray) -> np.ndarray:
    """Phenotypes from the coordinates of a chart.

    Args:
        coordinates: (B, 85) in physical units, NaN for coordinates outside the chart.

    Returns:
        (B, 82) complete phenotypes; the nine identities hold exactly.
    """
    values = np.array(coordinates, dtype=np.float64)
    for aorta, change in zip(AORTAS, AREA_CHANGES, strict=True):
        pressure = 1000 * values[:, change] / values[:, aorta[2]]
        values[:, PULSE_PRESSURE] = np.where(np.isnan(values[:, PULSE_PRESSURE]), pressure, values[:, PULSE_PRESSURE])
    for (largest, smallest, distensibility), change in zip(AORTAS, AREA_CHANGES, strict=True):
        relative = values[:, distensibility] * values[:, PULSE_PRESSURE] / 1000
        relative = np.where(np.isnan(values[:, change]), relative, values[:, change])
        values[:, largest] = _either(values[:, largest], values[:, smallest] * (1 + relative))
        values[:, smallest] = _either(values[:, smallest], values[:, largest] / (1 + relative))
        values[:, distensibility] = _either(values[:, distensibility], 1000 * relative / values[:, PULSE_PRESSURE])
    return enforce_identities(fill_determined(values[:, : len(NAMES)]))


def _either(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(first), second, first)


def _first_known(known: np.ndarray, candidates: tuple[int, ...]) -> int:
    return next((index for index in candidates if known[index]), candidates[0])


def _chart(chosen: tuple[int, ...]) -> Chart:
    return tuple(sorted((*_PLAIN, *_FRACTIONS.tolist(), *chosen)))


# ---- cpgg_hf.models.phenotype_vae


@dataclass
class CPGGPhenotypeVAEOutput(BaseOutput):
    """What `CPGGPhenotypeVAE.forward` returns.

    Args:
        loss: scalar, `reconstruction_loss + kl_weight * kl_loss`.
        reconstruction_loss: scalar, mean squared error of the standardised phenotypes.
        kl_loss: scalar, KL divergence to N(0, I), summed over latents, mean over the batch.
        reconstruction: (B, 82) standardised phenotypes.
        mean: (B, latent_dim) of the posterior.
        logvar: (B, latent_dim) of the posterior.
    """

    loss: torch.Tensor
    reconstruction_loss: torch.Tensor
    kl_loss: torch.Tensor
    reconstruction: torch.Tensor
    mean: torch.Tensor
    logvar: torch.Tensor


class CPGGPhenotypeVAE(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Variational autoencoder of phenotype vectors, with its scaler; all interfaces speak physical units.

    `CPGGPhenotypeVAE.from_phenotypes(phenotypes)` sets the scaler, `model(phenotypes).loss` is what training
    minimises, `model.fit_sampler(phenotypes)` ends it; then `sample` and `sample_conditional` draw from the learned
    joint distribution. The defaults are the published network.

    Args:
        phenotype_mean: 82 means in physical units; None takes the schema's.
        phenotype_sd: 82 standard deviations in physical units; None takes the schema's.
        coordinate_mean: 85 means of the sampler's unbounded coordinates, set by `fit_sampler`.
        coordinate_sd: 85 standard deviations of the same.
        hidden_dims: widths of the encoder's blocks; the decoder mirrors them.
        latent_dim: number of latents.
        kl_weight: weight of the KL term (published: 0.01 to 0.05).
        num_mixture_components: Gaussians that `fit_sampler` describes the latents with.
        sampler_fitted: set by `fit_sampler`; without it `sample` decodes z ~ N(0, I) as published.
        data_policy: of the data that the weights come from; not known = restricted.
    """

    config: Any  # attributes are the arguments above

    # Covariances that were rounded to 16 bits are none: whatever precision a pipeline is cast to, this stays as it is.
    _keep_in_fp32_modules = [  # type: ignore[assignment]  # noqa: RUF012
        *("encoder", "latent_mean", "latent_logvar", "decoder_input", "decoder", "decoder_output"),
        *("mixture_weights", "mixture_means", "mixture_covariances"),
        *("residual_means", "residual_slopes", "residual_covariances"),
    ]

    @register_to_config
    def __init__(
        self,
        phenotype_mean: list[float] | None = None,
        phenotype_sd: list[float] | None = None,
        coordinate_mean: list[float] | None = None,  # noqa: ARG002 - read from the config
        coordinate_sd: list[float] | None = None,  # noqa: ARG002 - read from the config
        hidden_dims: tuple[int, ...] = (128, 128, 128),
        latent_dim: int = 32,
        kl_weight: float = 0.01,  # noqa: ARG002 - read from the config
        num_mixture_components: int = 8,
        sampler_fitted: bool = False,  # noqa: ARG002 - read from the config
        data_policy: str | None = None,  # noqa: ARG002 - read from the config
    ) -> None:
        super().__init__()
        self.register_to_config(
            phenotype_mean=[item.mean for item in PHENOTYPES] if phenotype_mean is None else list(phenotype_mean),
            phenotype_sd=[item.sd for item in PHENOTYPES] if phenotype_sd is None else list(phenotype_sd),
        )
        self.encoder = _blocks([len(NAMES), *hidden_dims])
        self.latent_mean = nn.Linear(hidden_dims[-1], latent_dim)
        self.latent_logvar = nn.Linear(hidden_dims[-1], latent_dim)
        self.decoder_input = nn.Linear(latent_dim, hidden_dims[-1])
        self.decoder = _blocks([*reversed(hidden_dims), len(NAMES)])
        self.decoder_output = nn.Linear(len(NAMES), len(NAMES))

        # Of each group: latents and what they decode to, L + 82; then coordinates = means + decoded @ slopes + noise.
        groups, joint, coordinates = num_mixture_components, latent_dim + len(NAMES), len(COORDINATES)
        self.register_buffer("mixture_weights", torch.full((groups,), 1 / groups))
        self.register_buffer("mixture_means", torch.zeros(groups, joint))
        self.register_buffer("mixture_covariances", torch.eye(latent_dim, joint).repeat(groups, 1, 1))
        self.register_buffer("residual_means", torch.zeros(groups, coordinates))
        self.register_buffer("residual_slopes", torch.zeros(len(NAMES), coordinates))
        self.register_buffer("residual_covariances", torch.zeros(groups, coordinates, coordinates))

    def _apply(self, fn, recurse: bool = True):
        def apply(tensor: torch.Tensor) -> torch.Tensor:
            applied = fn(tensor)
            return applied if applied.dtype == tensor.dtype else tensor.to(applied.device)

        return super()._apply(apply, recurse)

    @classmethod
    def from_phenotypes(cls, phenotypes: np.ndarray, **config) -> "CPGGPhenotypeVAE":
        """A new model whose scaler is fitted to the training set.

        Args:
            phenotypes: (N, 82) complete training vectors in physical units (anything `as_array` reads).
            config: the other arguments of the constructor.

        Raises:
            PhenotypeError: the table cannot be read, or a row contradicts itself (ESV above EDV, identities).
            ValueError: values are missing, or a phenotype is constant.
        """
        array = _complete(phenotypes)
        coordinates = to_unbounded(to_coordinates(array))
        constant = np.flatnonzero(coordinates.std(axis=0) < 1e-9)
        if len(constant):
            raise ValueError(f"{COORDINATES[constant[0]]} is the same in all {len(array)} rows: nothing to learn from")
        return cls(
            phenotype_mean=array.mean(axis=0).tolist(),
            phenotype_sd=array.std(axis=0).tolist(),
            **config,
        )

    def encode(self, standardised: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Standardised phenotypes (B, 82) -> mean and logvar of the posterior, (B, latent_dim) each."""
        hidden = self.encoder(standardised)
        return self.latent_mean(hidden), self.latent_logvar(hidden)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (B, latent_dim) -> standardised phenotypes (B, 82)."""
        return self.decoder_output(self.decoder(self.decoder_input(latents)))

    def forward(self, phenotypes: torch.Tensor, noise: torch.Tensor | None = None) -> CPGGPhenotypeVAEOutput:
        """The training loss.

        Args:
            phenotypes: (B, 82), complete, in physical units.
            noise: (B, latent_dim), standard normal, of the posterior's draw; by default torch's global generator's.
        """
        standardised = self._standardise(phenotypes)
        mean, logvar = self.encode(standardised)
        noise = torch.randn_like(mean) if noise is None else noise
        reconstruction = self.decode(mean + torch.exp(0.5 * logvar) * noise)
        reconstruction_loss = nn.functional.mse_loss(reconstruction, standardised)
        kl_loss = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=1).mean()
        return CPGGPhenotypeVAEOutput(
            loss=reconstruction_loss + self.config.kl_weight * kl_loss,
            reconstruction_loss=reconstruction_loss,
            kl_loss=kl_loss,
            reconstruction=reconstruction,
            mean=mean,
            logvar=logvar,
        )

    @torch.no_grad()
    def fit_sampler(self, phenotypes: np.ndarray, seed: int = 0) -> None:
        """Describe the latents and residuals of the training set, which completes the model for sampling.

        Args:
            phenotypes: (N, 82) complete training vectors in physical units, N at least 50 per mixture component.
            seed: of the posterior draws and of the mixture's start.

        Raises:
            ValueError: too few rows, missing values, or a mixture component that no row belongs to.
        """
        from sklearn.mixture import GaussianMixture

        components = self.config.num_mixture_components
        array = _complete(phenotypes)
        if len(array) < 50 * components:
            raise ValueError(f"{len(array)} rows for {components} components: give at least {50 * components}")
        unbounded = to_unbounded(to_coordinates(array))
        self.register_to_config(
            coordinate_mean=unbounded.mean(axis=0).tolist(), coordinate_sd=unbounded.std(axis=0).tolist()
        )
        coordinates = torch.from_numpy(self._scale(unbounded))

        self.eval()
        generator = torch.Generator().manual_seed(seed)
        mean, logvar = (part.cpu().double() for part in self.encode(self._standardise(torch.from_numpy(array))))
        latents = mean + torch.exp(0.5 * logvar) * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        decoded = self._double_decoder()(latents)

        # Groups (healthy, dilated, ...) are told apart in the coordinates, where they differ more than in the latents.
        chart = coordinates[:, next(all_charts())].numpy()
        mixture = GaussianMixture(components, reg_covar=1e-4, random_state=seed).fit(chart)
        assigned = torch.multinomial(torch.from_numpy(mixture.predict_proba(chart)), 1, generator=generator)[:, 0]
        if len(assigned.unique()) < components:
            raise ValueError(f"{components} mixture components are more than these rows fill: take fewer")

        deviations = decoded - _group_means(decoded, assigned)[assigned]
        # The ridge holds still what the decoder never varies.
        ridge = 1e-4 * len(array) * torch.eye(len(NAMES), dtype=torch.float64)
        slopes = torch.linalg.solve(deviations.T @ deviations + ridge, deviations.T @ coordinates)
        residuals = coordinates - decoded @ slopes
        joint = torch.cat([latents, decoded], dim=1)
        self.mixture_weights.copy_(torch.bincount(assigned) / len(array))
        self.mixture_means.copy_(_group_means(joint, assigned))
        self.mixture_covariances.copy_(_group_covariances(joint, assigned)[:, : latents.shape[1]])
        self.residual_means.copy_(_group_means(residuals, assigned))
        self.residual_slopes.copy_(slopes)
        self.residual_covariances.copy_(_group_covariances(residuals, assigned))
        self.register_to_config(sampler_fitted=True)

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | list[torch.Generator] | None = None) -> np.ndarray:
        """Draw phenotype vectors from the learned distribution.

        Args:
            num_samples: how many.
            generator: one generator (a seed a row is drawn from it first) or a list with one a row; None uses torch's
                global one. A row depends on its own seed alone, bit for bit.

        Returns:
            (num_samples, 82) float64 in physical units; the nine identities hold exactly.
        """
        return self.sample_conditional(np.full((num_samples, len(NAMES)), np.nan), generator)

    @torch.no_grad()
    def sample_conditional(
        self, fixed: np.ndarray, generator: torch.Generator | list[torch.Generator] | None = None
    ) -> np.ndarray:
        """Draw the missing phenotypes from the learned distribution, given the fixed ones.

        Args:
            fixed: anything `as_array` reads, (B, 82); NaN = free. Derived phenotypes can be fixed like any other.
            generator: as for `sample`.

        Returns:
            (B, 82) float64 in physical units. Fixed values come back exactly and the nine identities hold exactly; of
            redundant values that agree only within rounding, the derived ones give way.

        Raises:
            PhenotypeError: a request that contradicts itself, is impossible, or is in the wrong unit.
            ValueError: values are fixed but `fit_sampler` was never called; a list of generators of another length.
        """
        given = as_array(fixed)
        completed = complete_identities(given)
        generators = _generators(generator, len(given))
        if not self.config.sampler_fitted:
            if np.isfinite(given).any():
                raise ValueError("values can be fixed after fit_sampler(training phenotypes) only: call it, then save")
            return self._sample_as_published(generators)
        sampler = _Sampler(self)
        rows = [self._draw(sampler, row, own) for row, own in zip(completed, generators, strict=True)]
        result = np.concatenate(rows)
        # An identity solved for another variable may miss a fixed value by the last bit.
        kept = np.isclose(result, given, rtol=1e-11, atol=0)
        return np.where(kept, given, enforce_identities(np.where(kept, given, result)))

    def _sample_as_published(self, generators: list[torch.Generator]) -> np.ndarray:
        decoder = self._double_decoder()
        decoded = torch.cat([decoder(_normal((1, self.config.latent_dim), own)) for own in generators]).numpy()
        mean, sd = np.array(self.config.phenotype_mean), np.array(self.config.phenotype_sd)
        return enforce_identities(_possible(decoded * sd + mean))

    def _draw(self, sampler: "_Sampler", completed: np.ndarray, generator: torch.Generator) -> np.ndarray:
        chart, fixed = chart_for(completed)
        scaled = self._scale(to_unbounded(fixed[None]))[0]
        observed = tuple(index for index in chart if np.isfinite(scaled[index]))
        free = tuple(index for index in chart if not np.isfinite(scaled[index]))
        drawn = sampler.draw(torch.from_numpy(scaled), observed, free, generator)
        values = from_unbounded(self._unscale(drawn[None].numpy()))
        coordinates = np.full((1, len(COORDINATES)), np.nan)
        coordinates[0, free] = values[0, free]
        coordinates[0, observed] = fixed[list(observed)]
        return from_chart(coordinates)

    def _standardise(self, phenotypes: torch.Tensor) -> torch.Tensor:
        array = phenotypes.detach().cpu().double().numpy()
        if array.ndim != 2 or array.shape[1] != len(NAMES) or not np.isfinite(array).all():
            raise ValueError(
                f"phenotypes of shape {array.shape}: expected complete (B, {len(NAMES)}) vectors without NaN"
            )
        standardised = (array - np.array(self.config.phenotype_mean)) / np.array(self.config.phenotype_sd)
        return torch.from_numpy(standardised).to(self.device, self.dtype)

    def _double_decoder(self) -> nn.Module:
        """A copy of the decoder that computes the same bits wherever and in whatever alignment the weights lie."""
        decoder = nn.Sequential(self.decoder_input, self.decoder, self.decoder_output)
        return deepcopy(decoder).to(device="cpu", dtype=torch.float64).eval()

    def _scale(self, unbounded: np.ndarray) -> np.ndarray:
        return (unbounded - np.array(self.config.coordinate_mean)) / np.array(self.config.coordinate_sd)

    def _unscale(self, scaled: np.ndarray) -> np.ndarray:
        return scaled * np.array(self.config.coordinate_sd) + np.array(self.config.coordinate_mean)


@dataclass
class _Gains:
    """What conditioning on a set of coordinates needs whatever their values, for K groups, L latents, O observed."""

    predicted: torch.Tensor  # (K, O) mean of the observed coordinates
    errors: torch.Tensor  # (K, O, O) Cholesky factor of their covariance
    latents: torch.Tensor  # (K, L, O) regression of z on them
    latent_factors: torch.Tensor  # (K, L, L) Cholesky factor of z given them
    noises: torch.Tensor  # (K, F, O) regression of the free coordinates' residual on theirs
    noise_factors: torch.Tensor  # (K, F, F) Cholesky factor of what that leaves over


class _Sampler:
    """Draws from the mixture that `fit_sampler` stored, with or without some coordinates observed; float64 on CPU."""

    def __init__(self, model: CPGGPhenotypeVAE) -> None:
        self.decode = model._double_decoder()
        num_latents = model.config.latent_dim
        self.log_weights = model.mixture_weights.cpu().double().log()
        self.means, decoded_means = model.mixture_means.cpu().double().tensor_split([num_latents], dim=1)
        self.covariances, covariances_with_decoded = (
            model.mixture_covariances.cpu().double().tensor_split([num_latents], dim=2)
        )
        self.offsets = model.residual_means.cpu().double()
        self.slopes = model.residual_slopes.cpu().double()
        self.noises = model.residual_covariances.cpu().double()
        # Statistical linearisation: coordinates have this mean in a group, and this covariance with z.
        self.coordinate_means = self.offsets + decoded_means @ self.slopes
        self.cross_covariances = covariances_with_decoded @ self.slopes
        self.gains: dict[tuple[tuple[int, ...], ...], _Gains] = {}

    def draw(
        self, values: torch.Tensor, observed: tuple[int, ...], free: tuple[int, ...], generator: torch.Generator
    ) -> torch.Tensor:
        """Scaled coordinates (85,) with `free` drawn given `values[observed]`."""
        if (observed, free) not in self.gains:
            self.gains[observed, free] = self._gains(list(observed), list(free))
        gains = self.gains[observed, free]
        given, unknown = values[list(observed)], list(free)
        errors = (given - gains.predicted)[:, :, None]
        group = _categorical(self.log_weights + _log_normal(errors, gains.errors), generator)

        noise = gains.latent_factors[group] @ _normal(self.means.shape[1], generator)
        latents = self.means[group] + gains.latents[group] @ errors[group, :, 0] + noise
        center = self.offsets[group] + self.decode(latents[None])[0] @ self.slopes

        noise = gains.noise_factors[group] @ _normal(len(free), generator)
        result = values.clone()
        result[unknown] = center[unknown] + gains.noises[group] @ (given - center[list(observed)]) + noise
        return result

    def _gains(self, observed: list[int], free: list[int]) -> _Gains:
        cross = self.cross_covariances[:, :, observed]
        noises, noises_with_free = self.noises[:, observed][:, :, observed], self.noises[:, observed][:, :, free]
        linear = cross.mT @ torch.cholesky_solve(cross, _cholesky(self.covariances))
        errors = _cholesky(linear + noises)
        latent_gains = torch.cholesky_solve(cross.mT, errors).mT
        noise_gains = torch.cholesky_solve(noises_with_free, _cholesky(noises)).mT
        return _Gains(
            predicted=self.coordinate_means[:, observed],
            errors=errors,
            latents=latent_gains,
            latent_factors=_cholesky(self.covariances - latent_gains @ cross.mT),
            noises=noise_gains,
            noise_factors=_cholesky(self.noises[:, free][:, :, free] - noise_gains @ noises_with_free),
        )


def _blocks(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, next_width in pairwise(widths):
        layers += [nn.Linear(width, next_width), nn.BatchNorm1d(next_width), nn.LeakyReLU()]
    return nn.Sequential(*layers)


def _group_means(rows: torch.Tensor, assigned: torch.Tensor) -> torch.Tensor:
    return torch.stack([rows[assigned == group].mean(dim=0) for group in range(int(assigned.max()) + 1)])


def _group_covariances(rows: torch.Tensor, assigned: torch.Tensor) -> torch.Tensor:
    """Covariance of each group; small ones lean on that of all, as if by one more row a coordinate."""
    deviations = rows - _group_means(rows, assigned)[assigned]
    prior_rows = len(COORDINATES)
    pooled = deviations.T @ deviations / len(rows)
    own = [deviations[assigned == group] for group in range(int(assigned.max()) + 1)]
    return torch.stack([(part.T @ part + prior_rows * pooled) / (len(part) + prior_rows) for part in own])


def _complete(phenotypes: np.ndarray) -> np.ndarray:
    array = as_array(phenotypes)
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"row {row} lacks {NAMES[column]}: train on complete rows")
    return complete_identities(array)


def _possible(decoded: np.ndarray) -> np.ndarray:
    """Cut freely decoded phenotypes (B, 82) to possible hearts: none changes its sign, largest above smallest."""
    limits = np.array([1e-3 * phenotype.mean for phenotype in PHENOTYPES])
    result = np.where(limits > 0, np.maximum(decoded, limits), np.minimum(decoded, limits))
    for largest, smallest, *_ in (*CHAMBERS, *AORTAS):
        result[:, smallest] = np.minimum(result[:, smallest], 0.99 * result[:, largest])
    return result


def _generators(generator: torch.Generator | list[torch.Generator] | None, num_rows: int) -> list[torch.Generator]:
    if isinstance(generator, list):
        if len(generator) != num_rows:
            raise ValueError(f"{len(generator)} generators for {num_rows} rows: give one a row, or a single one")
        return generator
    device = "cpu" if generator is None else generator.device
    seeds = torch.randint(2**63 - 1, (num_rows,), generator=generator, device=device).tolist()
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _normal(shape: int | tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64).cpu()


def _uniform(generator: torch.Generator) -> torch.Tensor:
    return torch.rand((), generator=generator, device=generator.device, dtype=torch.float64).cpu()


def _categorical(log_weights: torch.Tensor, generator: torch.Generator) -> int:
    cumulative = torch.softmax(log_weights, dim=0).cumsum(0)
    return int(torch.searchsorted(cumulative, _uniform(generator)).clamp(max=len(log_weights) - 1))


def _cholesky(covariance: torch.Tensor) -> torch.Tensor:
    # Near-identities (a global strain is almost the mean of its segments) leave covariances that float32 storage can
    # make indefinite; 1e-6 of a standardised variance is far below what anyone measures.
    return torch.linalg.cholesky(covariance + 1e-6 * torch.eye(covariance.shape[-1], dtype=covariance.dtype))


def _log_normal(errors: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Log N(error; 0, factor factor^T) up to (2 pi)^(-d/2): errors (K, d, 1), factors (K, d, d) -> (K,)."""
    squares = torch.linalg.solve_triangular(factors, errors, upper=False).square().sum(dim=(1, 2))
    return -0.5 * squares - factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)


# ---- cpgg_hf.models.scheduling_cpgg_ddpm


class _Step(NamedTuple):
    """Coefficients of one reverse step: the mean from sample and noise, or from sample and clipped original; the
    original from sample and noise; the log of the deviation between two bounds.
    """

    sample: float
    noise: float
    original_sample: float
    original_noise: float
    log_deviation_middle: float
    log_deviation_slope: float
    of_sample: float
    of_original: float


class CPGGDDPMScheduler(DDPMScheduler):
    """DDPM on the cosine schedule with learned-range variance, float64 tables and a temperature.

    Inference timesteps are spread evenly with both ends included, and the schedule is re-spaced to them, as published.
    Of the arguments `num_train_timesteps` and the clipping are free; the others name what is implemented, so that
    another scheduler built by `from_config` takes them over.

    Args:
        num_train_timesteps (`int`, defaults to 1000): Steps of the diffusion that the head was trained on.
        beta_schedule (`str`, defaults to `"squaredcos_cap_v2"`): The cosine schedule.
        variance_type (`str`, defaults to `"learned_range"`): The model's output holds the variance.
        prediction_type (`str`, defaults to `"epsilon"`): The model estimates the noise.
        clip_sample (`bool`, defaults to `False`): Whether each step's estimate of the original latents is clipped to
            +- `clip_sample_range` (published: not). At the first timesteps the estimate is the noise's error divided
            by nearly nothing, which a briefly trained head does not survive.
        clip_sample_range (`float`, defaults to 4.0): In standard deviations of the latents.
        timestep_spacing (`str`, defaults to `"linspace"`): The published spacing.
    """

    config: Any  # attributes are the arguments above

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_schedule: str = "squaredcos_cap_v2",
        variance_type: Literal["learned_range"] = "learned_range",
        prediction_type: str = "epsilon",
        clip_sample: bool = False,  # noqa: ARG002 (read from the config)
        timestep_spacing: str = "linspace",
        clip_sample_range: float = 4.0,  # noqa: ARG002
    ):
        for name, given, implemented in (
            ("beta_schedule", beta_schedule, "squaredcos_cap_v2"),
            ("variance_type", variance_type, "learned_range"),
            ("prediction_type", prediction_type, "epsilon"),
            ("timestep_spacing", timestep_spacing, "linspace"),
        ):
            if given != implemented:
                raise ValueError(
                    f"CPGGDDPMScheduler implements {name}={implemented!r} only, not {given!r}; "
                    "use diffusers' DDPMScheduler for other settings."
                )
        # Else diffusers takes another class's own defaults for what is a default here, when it builds that from this.
        self.register_to_config(_use_default_values=[])
        self.betas = torch.from_numpy(cosine_betas(num_train_timesteps))
        self.alphas = 1.0 - self.betas
        self.alphas_cumprod = torch.cumprod(self.alphas, dim=0)
        self.init_noise_sigma = 1.0
        self.variance_type = variance_type
        self.set_timesteps(num_train_timesteps)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: list[int] | None = None,
    ) -> None:
        """Sets the timesteps of the chain.

        Args:
            num_inference_steps: how many, at least 2 and at most `num_train_timesteps`; spread evenly.
            device: where `timesteps` lies afterwards.
            timesteps: the timesteps themselves, descending, in place of a number.
        """
        if timesteps is None and not 2 <= (num_inference_steps or 0) <= len(self):
            raise ValueError(f"num_inference_steps must lie between 2 and {len(self)}, not {num_inference_steps}.")
        super().set_timesteps(num_inference_steps, device, timesteps)  # type: ignore[arg-type]
        chain = self.timesteps.tolist()
        cumprods = self.alphas_cumprod.cpu().numpy()[chain]
        self._steps = dict(zip(chain, _reverse_steps(cumprods), strict=True))

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
        temperature: float = 1.0,
        variance_noise: torch.Tensor | None = None,
    ) -> DDPMSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """Draws the sample of the previous timestep.

        Args:
            model_output: (B, 2 C, ...): noise estimate, then where the log-variance lies between its bounds (-1 to 1).
            timestep: one of `timesteps`.
            sample: (B, C, ...), at that timestep.
            generator: where the added noise comes from; a list gives one a sample.
            return_dict: whether to return a `DDPMSchedulerOutput` rather than a tuple.
            temperature: scale of the added noise.
            variance_noise: (B, C, ...), the noise to add, if it was drawn before.

        Returns:
            `prev_sample` and `pred_original_sample`, both (B, C, ...).
        """
        channels = sample.shape[1]
        if model_output.shape[1] != 2 * channels:
            raise ValueError(
                f"CPGGDDPMScheduler needs noise estimate and variance, {2 * channels} channels, for a sample of "
                f"{channels}; the model output has {model_output.shape[1]}."
            )
        timestep = int(timestep)
        step = self._steps[timestep]
        noise_estimate, variance_value = model_output.split(channels, dim=1)
        original = torch.add(sample * step.original_sample, noise_estimate, alpha=step.original_noise)
        if self.config.clip_sample:
            original = original.clamp_(-self.config.clip_sample_range, self.config.clip_sample_range)
            previous = torch.add(sample * step.of_sample, original, alpha=step.of_original)
        else:
            previous = torch.add(sample * step.sample, noise_estimate, alpha=step.noise)
        if timestep > 0:
            if variance_noise is None:
                variance_noise = randn_tensor(
                    sample.shape, generator=generator, device=sample.device, dtype=sample.dtype
                )
            deviation = (variance_value * step.log_deviation_slope).add_(step.log_deviation_middle).exp_()
            previous = previous.addcmul_(deviation, variance_noise, value=temperature)
        if not return_dict:
            return previous, original
        return DDPMSchedulerOutput(prev_sample=previous, pred_original_sample=original)


def _reverse_steps(alphas_cumprod: np.ndarray) -> list[_Step]:
    """Coefficients of each step of a chain, re-spaced, from the cumulative products at its descending timesteps."""
    previous = np.append(alphas_cumprod[1:], 1.0)
    alphas = alphas_cumprod / previous
    betas = 1.0 - alphas
    original_sample = 1.0 / np.sqrt(alphas_cumprod)
    original_noise = -np.sqrt(1.0 / alphas_cumprod - 1.0)
    of_original = betas * np.sqrt(previous) / (1.0 - alphas_cumprod)
    of_sample = np.sqrt(alphas) * (1.0 - previous) / (1.0 - alphas_cumprod)
    log_maximum = np.log(betas)
    # The last step adds no noise: its variance of zero is never used.
    log_minimum = np.log(np.maximum(betas * (1.0 - previous) / (1.0 - alphas_cumprod), math.ulp(0.0)))
    columns = (
        of_original * original_sample + of_sample,
        of_original * original_noise,
        original_sample,
        original_noise,
        0.25 * (log_maximum + log_minimum),
        0.25 * (log_maximum - log_minimum),
        of_sample,
        of_original,
    )
    return [_Step(*row) for row in np.stack(columns, axis=1).tolist()]


# ---- cpgg_hf.pipeline_cpgg


OUTPUT_TYPES = ("np", "pt", "pil", "latent")


_MODELS = {"phenotype_vae": CPGGPhenotypeVAE, "mar": CPGGMARModel, "vae": AutoencoderKLCPGG}


_COMPONENTS = _MODELS | {"scheduler": SchedulerMixin}


@dataclass
class CPGGPipelineOutput(BaseOutput):
    """What `CPGGPipeline` returns.

    Args:
        cines (`np.ndarray`): (B, T, H, W) float32 in [0, 1] for `output_type="np"`; a tensor of that for `"pt"`;
            T grey pictures a cine for `"pil"`; standardised latents (B, C, T', H', W') for `"latent"`.
        phenotypes (`pd.DataFrame`): B rows, 82 columns, physical units: what each cine was conditioned on. NaN = the
            MAR was told that it is missing (`fill_missing=False`).
        spacing_mm (`float`): pixel size of the cines.
        frame_time_ms (`np.ndarray`): (B,) from one frame to the next: RR / T with RR = 60000 / heart rate and heart
            rate = 1000 CO / SV of the phenotypes; NaN where these are missing.
        seeds (`np.ndarray`): (B,) int64. `generator=[torch.Generator().manual_seed(int(seed)) for seed in seeds]`
            draws the same samples again, unless generators were given that had been used before.
    """

    cines: Any
    phenotypes: pd.DataFrame
    spacing_mm: float
    frame_time_ms: np.ndarray
    seeds: np.ndarray


class _Interrupted(Exception):  # noqa: N818 (no error: how a callback stops the MAR's decoding)
    """Carries the latents of the micro-batch at which a callback interrupted the pipeline."""

    def __init__(self, latents: torch.Tensor):
        super().__init__()
        self.latents = latents


class CPGGPipeline(DiffusionPipeline):  # type: ignore[misc]
    r"""
    Generates four-chamber cine cardiac MRI from cardiac phenotypes.

    This pipeline inherits from [`~diffusers.DiffusionPipeline`]: see there for loading, saving, devices and
    offloading. It is saved and loaded as safetensors only.

    Args:
        phenotype_vae ([`CPGGPhenotypeVAE`]): draws the phenotypes that a request leaves open.
        mar ([`CPGGMARModel`]): draws standardised latents from phenotypes; `pipe.mar.load_adapter(folder_or_repo)`
            puts a LoRA onto it.
        vae ([`AutoencoderKLCPGG`]): decodes latents into cines.
        scheduler ([`CPGGDDPMScheduler`]): the diffusion chain of a token; see `set_scheduler` for others. A MAR with a
            flow-matching head takes diffusers' `FlowMatchEulerDiscreteScheduler`; 8 to 25 steps do.
        guidance_scale (`float`, defaults to 3.0): what a call without `guidance_scale` uses; 3.0 is the paper's.
        temperature (`float`, defaults to 1.0): what a call without `temperature` uses, if the scheduler is a
            `CPGGDDPMScheduler`; others know none but 1.
        num_decoding_steps (`int`, defaults to 16): what a call without `num_decoding_steps` uses.
        num_inference_steps (`int`, defaults to 100): what a call without `num_inference_steps` uses.
        pixel_spacing_mm (`float`, defaults to 1.8): pixel size of the cines that the models were trained on.
        micro_batch_size (`int`, defaults to 8): how many samples the MAR always works on at once. Kernels round
            differently at different shapes, so incomplete micro-batches are padded: a sample is the same in any
            company. 1 wastes nothing and is best on a CPU; a GPU wants more. Between values, samples differ by
            rounding.
    """

    config: Any  # attributes are the parameters above
    phenotype_vae: CPGGPhenotypeVAE
    mar: CPGGMARModel
    vae: AutoencoderKLCPGG
    scheduler: Any

    model_cpu_offload_seq = "phenotype_vae->mar->vae"  # type: ignore[assignment]
    _optional_components: list[str] = []  # noqa: RUF012
    _callback_tensor_inputs = ["latents"]  # noqa: RUF012

    def __init__(
        self,
        phenotype_vae: CPGGPhenotypeVAE,
        mar: CPGGMARModel,
        vae: AutoencoderKLCPGG,
        scheduler: SchedulerMixin,
        guidance_scale: float = 3.0,
        temperature: float = 1.0,
        num_decoding_steps: int = 16,
        num_inference_steps: int = 100,
        pixel_spacing_mm: float = 1.8,
        micro_batch_size: int = 8,
    ):
        super().__init__()
        _check_components(phenotype_vae=phenotype_vae, mar=mar, vae=vae, scheduler=scheduler)
        _check_positive(
            num_decoding_steps=num_decoding_steps,
            num_inference_steps=num_inference_steps,
            pixel_spacing_mm=pixel_spacing_mm,
            micro_batch_size=micro_batch_size,
        )
        _check_positive(or_zero=True, guidance_scale=guidance_scale, temperature=temperature)
        self.register_modules(phenotype_vae=phenotype_vae, mar=mar, vae=vae, scheduler=scheduler)
        self.register_to_config(
            guidance_scale=guidance_scale,
            temperature=temperature,
            num_decoding_steps=num_decoding_steps,
            num_inference_steps=num_inference_steps,
            pixel_spacing_mm=pixel_spacing_mm,
            micro_batch_size=micro_batch_size,
        )
        self._guidance_scale = guidance_scale
        self._num_timesteps = 0
        self._interrupt = False

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> "CPGGPipeline":
        """Loads a pipeline from a folder or a hub repository; see [`~diffusers.DiffusionPipeline.from_pretrained`].

        Raises:
            CheckpointError: the folder is no CPGG pipeline, is damaged, or holds pickles instead of safetensors.
        """
        kwargs["use_safetensors"] = True
        if "torch_dtype" not in kwargs:
            # transformers would take what the configuration says, which a variant in half precision has written.
            kwargs.setdefault("dtype", torch.float32)
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir():
            cls._check_files(folder, given=kwargs.keys())
        # `name` and `owner/name` are hub repositories, unless the owner is a folder that lies here.
        elif folder.exists() or len(folder.parts) > 2 or (len(folder.parts) == 2 and folder.parent.is_dir()):
            raise CheckpointError(
                f"there is no folder {folder}; give the folder that save_pretrained wrote, or a hub repository."
            )
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
            if folder.is_dir():
                raise CheckpointError(f"the pipeline in {folder} cannot be loaded ({brief(error)}).") from error
            raise CheckpointError(
                f"there is no folder {folder}, and no pipeline came from the hub repository of that name "
                f"({brief(error)}); check the name, the network and the access rights."
            ) from error

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:  # type: ignore[override]
        """Saves the pipeline as safetensors; see [`~diffusers.DiffusionPipeline.save_pretrained`].

        Raises:
            ValueError: the MAR carries an adapter, beside which its own weights would be left out.
        """
        if getattr(self.mar, "_hf_peft_config_loaded", False):
            raise ValueError(
                f"the MAR carries the adapters {list(self.mar.peft_config)}, which are saved alone: keep them by "
                "pipe.mar.save_pretrained(folder), or remove them by pipe.mar.delete_adapter(name) first."
            )
        super().save_pretrained(save_directory, **kwargs)

    @classmethod
    def _check_files(cls, folder: Path, given: Collection[str]) -> None:
        """Checks all components in a folder but those that the caller brings along."""
        models = {name: model_class for name, model_class in _MODELS.items() if name not in given}
        expected: dict[str, str | None] = {name: model_class.__name__ for name, model_class in models.items()}
        if "scheduler" not in given:
            expected["scheduler"] = None
        check_index(folder, cls.__name__, expected)
        if "scheduler" not in given:
            read_json(folder / "scheduler" / "scheduler_config.json")
        for name, model_class in models.items():
            check_model(folder / name, model_class)

    def set_scheduler(self, scheduler_class: Any, **overrides: Any) -> None:
        """Replaces the scheduler by one of another class, built for the same diffusion.

        The learned variance is left out: `CPGGDDPMScheduler` alone takes it, others crash on it.

        Args:
            scheduler_class: `DDIMScheduler`, `DPMSolverMultistepScheduler`, ...; for a flow-matching head
                `FlowMatchHeunDiscreteScheduler`, ...
            overrides: settings of that scheduler that differ from the present one's.

        Raises:
            ValueError: it removes noise where the MAR's head gives a flow's velocity, or the other way round.
        """
        config = {key: value for key, value in self.scheduler.config.items() if key != "variance_type"}
        scheduler = scheduler_class.from_config(config, **overrides)
        check_scheduler(self.mar.config.head_type, scheduler)
        self.scheduler = scheduler

    @property
    def data_policy(self) -> str:
        """The strictest policy of the networks: of the data that a generated cine descends from."""
        return strictest(getattr(self, name).config.data_policy for name in _MODELS)

    @property
    def guidance_scale(self) -> float:
        """The guidance scale of the call that runs, or ran last."""
        return self._guidance_scale

    @property
    def num_timesteps(self) -> int:
        """Decoding steps of the call that runs, or ran last, all micro-batches together."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether a callback has set `pipe._interrupt = True`, which ends the decoding after its step."""
        return self._interrupt

    @torch.no_grad()
    def sample_phenotypes(
        self,
        phenotypes: Any = None,
        num_samples: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> pd.DataFrame:
        """Draws phenotypes alone, the same ones that a call with these arguments would generate cines from.

        Args:
            phenotypes: see `__call__`; what is given comes back exactly.
            num_samples: rows for each row of `phenotypes`.
            generator: see `__call__`.

        Returns:
            B rows, 82 columns, physical units.
        """
        requested = _expand(phenotypes, num_samples)
        streams = _draw_streams(generator, len(requested))[0]
        sampled = self._fill_missing(requested, [phenotype_stream for phenotype_stream, _ in streams])
        self.maybe_free_model_hooks()
        return as_frame(sampled)

    @torch.no_grad()
    def __call__(
        self,
        phenotypes: Any = None,
        num_samples: int | None = None,
        num_decoding_steps: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        fill_missing: bool = True,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end: Callable[["CPGGPipeline", int, int, dict[str, Any]], dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> CPGGPipelineOutput:
        r"""
        Generates cines.

        Args:
            phenotypes (`dict`, `list`, `pd.DataFrame`, `np.ndarray`, *optional*): what the hearts shall be like, in
                physical units: a dict (`{"LVEF": 30.0, "LVEDV": 220.0}`), a list of dicts, a DataFrame, a (B, 82)
                array or a list of (82,) tensors. NaN or absent = sampled; all of them if nothing is given. Two of a
                chamber's EDV, ESV, SV, EF determine the others.
            num_samples (`int`, defaults to 1): cines for each row of `phenotypes`, row by row.
            num_decoding_steps (`int`, *optional*): passes of the transformer; the pipeline config's (16 by default).
            num_inference_steps (`int`, *optional*): diffusion steps a token; the pipeline config's (100 by default).
            guidance_scale (`float`, *optional*): 1 = no guidance, 0 = unconditional; the pipeline config's by default.
            temperature (`float`, *optional*): scale of the noise that the diffusion steps add; the pipeline config's.
            fill_missing (`bool`, defaults to `True`): whether missing phenotypes are sampled from what is given.
                With False the MAR is told that they are missing.
            generator (`torch.Generator` or a list of them, *optional*): one draws a seed a sample up front; a list
                gives one a sample. A sample depends on its own seed alone: it is the same, bit for bit, in any
                batch.
            latents (`torch.Tensor`, *optional*): (B, C, T', H', W'), the noise that the diffusion starts from.
            output_type (`str`, defaults to `"np"`): `"np"`, `"pt"`, `"pil"` or `"latent"`.
            return_dict (`bool`, defaults to `True`): whether to return a [`CPGGPipelineOutput`] or its tuple.
            callback_on_step_end (`Callable`, *optional*): called as `callback(pipe, step, decoding_step, kwargs)`
                after each decoding step of each micro-batch, `step` of `num_timesteps`. `kwargs["latents"]` are the
                micro-batch's standardised latents, 0 where nothing has been drawn; a dict with `"latents"` that it
                returns replaces them. `pipe._interrupt = True` ends the decoding.
            callback_on_step_end_tensor_inputs (`list[str]`, *optional*): what `kwargs` holds; `"latents"` only.

        Returns:
            [`CPGGPipelineOutput`], or the tuple of its fields.

        Raises:
            PhenotypeError: unknown names, values in wrong units, requests that contradict themselves.
            ValueError: other arguments that do not fit.

        Examples:
        ```py
        >>> import torch
        >>> from cpgg_hf import CPGGPipeline

        >>> pipe = CPGGPipeline.from_pretrained("checkpoints/cpgg-phantom-small")
        >>> output = pipe({"LVEF": 30.0, "LVEDV": 220.0}, generator=torch.Generator().manual_seed(0))
        >>> output.cines.shape, output.phenotypes["LVESV"][0]
        ((1, 50, 96, 96), 154.0)
        ```
        """
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type is {output_type!r}; expected one of {', '.join(OUTPUT_TYPES)}.")
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs has {sorted(unknown)}; expected among "
                f"{self._callback_tensor_inputs}."
            )
        guidance_scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        if temperature is None:
            temperature = self.config.temperature if _is_a(self.scheduler, CPGGDDPMScheduler) else 1.0
        _check_positive(or_zero=True, guidance_scale=guidance_scale, temperature=temperature)
        requested = _expand(phenotypes, num_samples)
        if latents is not None and len(latents) != len(requested):
            raise ValueError(f"latents hold {len(latents)} samples; {len(requested)} are asked for.")
        streams, seeds = _draw_streams(generator, len(requested))
        decoding_steps = self.config.num_decoding_steps if num_decoding_steps is None else num_decoding_steps
        self._guidance_scale = guidance_scale
        self._num_timesteps = decoding_steps * -(-len(requested) // self.config.micro_batch_size)
        self._interrupt = False

        conditions = self._fill_missing(requested, [stream for stream, _ in streams]) if fill_missing else requested
        with self.progress_bar(total=self._num_timesteps) as progress_bar:

            def on_step_end(step: int, decoding_step: int, so_far: torch.Tensor) -> torch.Tensor | None:
                progress_bar.update()
                if callback_on_step_end is None:
                    return None
                kwargs = dict.fromkeys(callback_on_step_end_tensor_inputs, so_far)
                return (callback_on_step_end(self, step, decoding_step, kwargs) or {}).get("latents")

            drawn = self._draw_latents(
                conditions,
                [stream for _, stream in streams],
                latents,
                on_step_end,
                num_decoding_steps=decoding_steps,
                num_inference_steps=(
                    self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
                ),
                temperature=temperature,
            )
        cines = drawn if output_type == "latent" else _as_output_type(self._decode(drawn), output_type)
        self.maybe_free_model_hooks()

        frames = self.vae.config.sample_size[0]
        output = CPGGPipelineOutput(
            cines=cines,
            phenotypes=as_frame(conditions),
            spacing_mm=self.config.pixel_spacing_mm,
            frame_time_ms=60000.0 / heart_rate(conditions) / frames,
            seeds=np.array(seeds, dtype=np.int64),
        )
        return output if return_dict else output.to_tuple()  # type: ignore[return-value]

    def _draw_latents(
        self,
        conditions: np.ndarray,
        generators: list[torch.Generator],
        noise: torch.Tensor | None,
        on_step_end: Callable[[int, int, torch.Tensor], torch.Tensor | None],
        **settings: Any,
    ) -> torch.Tensor:
        """Latents (B, C, T', H', W') of (B, 82) phenotypes, micro-batch by padded micro-batch."""
        device, size = self._execution_device, self.config.micro_batch_size
        conditions_on_device = torch.tensor(conditions, dtype=torch.float32, device=device)
        drawn = torch.zeros(len(conditions), *self.vae.latent_size, device=device)
        for start in range(0, len(conditions), size):
            count = min(size, len(conditions) - start)
            rows = [*range(start, start + count), *[start] * (size - count)]

            def callback(decoding_step: int, so_far: torch.Tensor, start=start, count=count) -> torch.Tensor:
                step = start // size * settings["num_decoding_steps"] + decoding_step
                replaced = on_step_end(step, decoding_step, so_far[:count])
                if replaced is not None:
                    so_far = torch.cat([replaced, so_far[count:]])
                if self._interrupt:
                    raise _Interrupted(so_far)
                return so_far

            padding = [torch.Generator(generators[start].device).manual_seed(0) for _ in range(size - count)]
            try:
                latents = self.mar.generate_latents(
                    conditions_on_device[rows],
                    self.scheduler,
                    guidance_scale=self._guidance_scale,
                    generators=[*generators[start : start + count], *padding],
                    latents=None if noise is None else noise[rows],
                    callback=callback,
                    **settings,
                )
            except _Interrupted as interrupted:
                latents = interrupted.latents
            drawn[start : start + count] = latents[:count]
            if self._interrupt:
                break
        return drawn

    def _fill_missing(self, requested: np.ndarray, generators: list[torch.Generator]) -> np.ndarray:
        """(B, 82) with what is NaN drawn to go with the rest, row by row, each from its own generator."""
        filled = requested.copy()
        incomplete = np.flatnonzero(np.isnan(requested).any(axis=1))
        if len(incomplete):
            own = [generators[row] for row in incomplete]
            filled[incomplete] = self.phenotype_vae.sample_conditional(requested[incomplete], generator=own)
        return filled

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Cines (B, T, H, W) float32 in [0, 1] of standardised latents, decoded one by one: always the same shape."""
        cines = []
        for sample in self.vae.unstandardise(latents).to(self.vae.dtype).split(1):
            cine = self.vae.decode(sample).sample[:, 0].float()
            cines.append(((cine + 1) / 2).clamp(0, 1))
        return torch.cat(cines)


def draw_seeds(num_samples: int, generator: torch.Generator | None = None) -> list[int]:
    """The seed of each sample of a call with this generator; the first ones are the same for any `num_samples`."""
    device = "cpu" if generator is None else generator.device
    return torch.randint(2**63 - 1, (num_samples,), generator=generator, device=device).tolist()


def _check_components(**components: Any) -> None:
    for name, component in components.items():
        if not _is_a(component, _COMPONENTS[name]):
            raise TypeError(f"{name} must be a {_COMPONENTS[name].__name__}, given a {type(component).__name__}.")
    phenotype_vae, mar, vae = (components[name] for name in _MODELS)
    check_scheduler(mar.config.head_type, components["scheduler"])
    for name in ("phenotype_mean", "phenotype_sd"):
        ours, theirs = (np.asarray(getattr(model.config, name), dtype=np.float64) for model in (mar, phenotype_vae))
        differing = np.flatnonzero(ours != theirs)
        if len(differing):
            index = differing[0]
            raise ValueError(
                f"mar and phenotype_vae standardise phenotypes differently: {name} of {NAMES[index]} is "
                f"{ours[index]:g} in one and {theirs[index]:g} in the other; take components trained together."
            )
    latent_size = (mar.config.latent_channels, *mar.config.latent_size)
    if latent_size != vae.latent_size:
        raise ValueError(
            f"mar generates latents of {latent_size}, vae decodes {vae.latent_size} (C, T', H', W'); take components "
            "trained together."
        )


def _is_a(component: Any, component_class: type) -> bool:
    """By name: in a hub repository with its own code each component's class comes from a file of its own."""
    return component_class.__name__ in {base.__name__ for base in type(component).__mro__}


def _check_positive(or_zero: bool = False, **settings: Any) -> None:
    for name, value in settings.items():
        if not isinstance(value, Real) or not (0 < float(value) < np.inf or (or_zero and value == 0)):
            raise ValueError(f"{name} must be a positive number{' or 0' if or_zero else ''}, given {value!r}.")


def _expand(phenotypes: Any, num_samples: int | None) -> np.ndarray:
    """A request as (B, 82), each row `num_samples` times, with what the identities determine filled in."""
    num_samples = 1 if num_samples is None else num_samples
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}; expected at least 1.")
    array = np.full((1, len(NAMES)), np.nan) if phenotypes is None else complete_identities(as_array(phenotypes))
    return np.repeat(array, num_samples, axis=0)


def _draw_streams(
    generator: torch.Generator | list[torch.Generator] | None, num_samples: int
) -> tuple[list[tuple[torch.Generator, torch.Generator]], list[int]]:
    """Two generators a sample, for its phenotypes and for its cine, and the seed that they follow from.

    Two, so that a cine is the same whether its phenotypes were sampled or given.
    """
    if isinstance(generator, list):
        if len(generator) != num_samples:
            raise ValueError(f"generator lists {len(generator)} generators; {num_samples} samples are asked for.")
        sources = generator
    else:
        device = "cpu" if generator is None else generator.device
        sources = [torch.Generator(device).manual_seed(seed) for seed in draw_seeds(num_samples, generator)]
    streams = []
    for source in sources:
        for_phenotypes, for_cine = (torch.Generator(source.device).manual_seed(one) for one in draw_seeds(2, source))
        streams.append((for_phenotypes, for_cine))
    return streams, [source.initial_seed() for source in sources]


def _as_output_type(cines: torch.Tensor, output_type: str) -> Any:
    if output_type == "pt":
        return cines
    array = cines.cpu().numpy()
    if output_type == "np":
        return array
    pictures = np.round(array * 255).astype(np.uint8)
    return [[PIL.Image.fromarray(frame, mode="L") for frame in cine] for cine in pictures]
