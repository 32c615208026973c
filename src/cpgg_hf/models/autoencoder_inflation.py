"""Initialises a 3D-VAE from a trained 2D one (paper, section 2.2: Stable Diffusion's VAE with 3D convolutions).

A 3D kernel has the 2D values in its middle frame and zeros elsewhere, so zero padding in time has no effect. Where a
downsampler merges several frames, each has an equal share of the 2D kernel; the padded frames have none. On a cine of
identical frames the 3D-VAE then equals the 2D one frame by frame, for any `temporal_factors`, because group norms and
attention over all frames see the same statistics. On a moving cine these two, and merged frames, differ.
"""

from typing import Any

import torch

from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG

_SHARED_SETTINGS = ("block_out_channels", "layers_per_block", "act_fn", "norm_num_groups", "mid_block_add_attention")
_LATENT_SETTINGS = ("latent_channels", "use_quant_conv", "use_post_quant_conv")
_LATENT_LAYERS = ("encoder.conv_out", "quant_conv", "post_quant_conv", "decoder.conv_in")


@torch.no_grad()
def inflate(vae: AutoencoderKLCPGG, vae_2d: Any) -> dict[str, list[str]]:
    """Copies the weights of `vae_2d` to `vae`, in place.

    RGB weights are adapted to grey cines: the first convolution is summed over the colours, the last one averaged. If
    `latent_channels`, `use_quant_conv` or `use_post_quant_conv` differ, the layers around the latents keep the weights
    of `vae`. A refiner always does.

    Args:
        vae: with `patch_size` (1, 1, 1).
        vae_2d: diffusers' `AutoencoderKL` of the same widths and layers.

    Returns:
        Names of the tensors of `vae` by origin: "inflated", "copied" (tensors without a kernel), "summed",
        "averaged" and "new".

    Raises:
        ValueError: the architectures differ.
    """
    _check_alike(vae, vae_2d)
    same_latents = all(vae.config[name] == vae_2d.config[name] for name in _LATENT_SETTINGS)
    state, flat = vae.state_dict(), vae_2d.state_dict()
    factors = {
        f"encoder.down_blocks.{level}.downsamplers.0.conv.weight": factor
        for level, factor in enumerate(vae.config.temporal_factors)
    }
    origin: dict[str, list[str]] = {kind: [] for kind in ("inflated", "copied", "summed", "averaged", "new")}
    for name, tensor in state.items():
        layer = name.rpartition(".")[0]
        if name.startswith("decoder.refiner.") or (layer in _LATENT_LAYERS and not same_latents):
            origin["new"].append(name)
            continue
        if name not in flat:
            raise ValueError(f"the 2D autoencoder has no {name!r}; use one with plain encoder and decoder blocks.")
        source, kind = flat[name], "inflated" if tensor.ndim == 5 else "copied"
        if name == "encoder.conv_in.weight" and source.shape[1] != tensor.shape[1]:
            source, kind = source.sum(1, keepdim=True), "summed"
        elif layer == "decoder.conv_out" and source.shape[0] != tensor.shape[0]:
            source, kind = source.mean(0, keepdim=True), "averaged"
        if tensor.ndim == 5:
            frames = _frames_of_kernel(tensor.shape[2], factors.get(name, 1)).to(tensor)
            source = source.unsqueeze(2) * frames[:, None, None]
        if source.shape != tensor.shape:
            raise ValueError(
                f"{name!r} has shape {tuple(flat[name].shape)} in the 2D autoencoder, which does not fit "
                f"{tuple(tensor.shape)}; use one with the same channels, or an RGB one for grey cines."
            )
        tensor.copy_(source)
        origin[kind].append(name)
    return origin


def _frames_of_kernel(length: int, temporal_factor: int) -> torch.Tensor:
    """The share of a 2D kernel in each frame of the 3D one, (length,), 1 in all; none where it may meet padding."""
    shares = torch.zeros(length)
    if temporal_factor == 1:
        shares[length // 2] = 1.0
    else:
        shares[:temporal_factor] = 1.0 / temporal_factor
    return shares


def _check_alike(vae: AutoencoderKLCPGG, vae_2d: Any) -> None:
    if tuple(vae.config.patch_size) != (1, 1, 1):
        raise ValueError(
            f"patch_size must be (1, 1, 1) for 2D weights, given {list(vae.config.patch_size)}; leave patch_size out."
        )
    for name in _SHARED_SETTINGS:
        ours, theirs = (config[name] for config in (vae.config, vae_2d.config))
        ours, theirs = (list(value) if isinstance(value, (list, tuple)) else value for value in (ours, theirs))
        if ours != theirs:
            raise ValueError(
                f"{name} is {theirs} in the 2D autoencoder but {ours} in the 3D one; set {name} to {theirs}."
            )
