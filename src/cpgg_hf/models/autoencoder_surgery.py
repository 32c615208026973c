"""Changes to a trained 3D-VAE that keep its other weights: fewer latent channels, or a refiner after the decoder."""

import torch

from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.models.gaussian import kl_to_standard_normal


def kl_per_channel(mean: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """KL of the posterior to N(0, 1) per channel, in nats per latent value: (B, C, T', H', W') twice -> (C,)."""
    return kl_to_standard_normal(mean, logvar).mean(dim=(0, 2, 3, 4))


@torch.no_grad()
def keep_latent_channels(vae: AutoencoderKLCPGG, channels: list[int]) -> AutoencoderKLCPGG:
    """A new 3D-VAE with only these latent channels, in this order.

    Removes channels whose posterior collapsed to the prior: they are N(0, 1) noise, which the decoder ignores but the
    MAR would have to model. The 1x1x1 convolutions around the latents are folded into their neighbours, so the
    remaining channels do not change; the decoded cine only changes by a constant at the borders, where zero padding
    meets the folded bias.

    Args:
        vae: with `quant_conv`, `post_quant_conv` and latent statistics.
        channels: indices of the channels to keep, at least one.

    Returns:
        The 3D-VAE, in the same training mode.

    Raises:
        ValueError: no channels, unknown channels, or a 3D-VAE without the parts named above.
    """
    count = vae.config.latent_channels
    if not channels or not set(channels) <= set(range(count)):
        raise ValueError(f"channels must be at least one of the latent channels 0 to {count - 1}, given {channels}.")
    if vae.quant_conv is None or vae.post_quant_conv is None or vae.config.latents_mean is None:
        raise ValueError("removing latent channels needs a 3D-VAE with quant_conv, post_quant_conv and latents_mean.")
    dropped = [channel for channel in range(count) if channel not in channels]
    statistics = {
        name: [vae.config[name][channel] for channel in channels] for name in ("latents_mean", "latents_std")
    }
    settings = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    smaller = AutoencoderKLCPGG(**{**settings, **statistics, "latent_channels": len(channels)})

    state = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    rows = [*channels, *(count + channel for channel in channels)]
    quant = state["quant_conv.weight"].flatten(1)[rows]
    state["encoder.conv_out.weight"] = torch.einsum("oi,icthw->octhw", quant, state["encoder.conv_out.weight"])
    state["encoder.conv_out.bias"] = quant @ state["encoder.conv_out.bias"] + state["quant_conv.bias"][rows]
    state["quant_conv.weight"] = _identity(2 * len(channels))
    state["quant_conv.bias"] = torch.zeros(2 * len(channels))

    post_quant = state["post_quant_conv.weight"].flatten(1)
    # The decoder sees a dropped channel at its mean.
    mean = torch.tensor([vae.config.latents_mean[channel] for channel in dropped])
    bias = state["post_quant_conv.bias"] + post_quant[:, dropped] @ mean
    kernel = state["decoder.conv_in.weight"]
    state["decoder.conv_in.weight"] = torch.einsum("oithw,ik->okthw", kernel, post_quant[:, channels])
    state["decoder.conv_in.bias"] = state["decoder.conv_in.bias"] + torch.einsum("oithw,i->o", kernel, bias)
    state["post_quant_conv.weight"] = _identity(len(channels))
    state["post_quant_conv.bias"] = torch.zeros(len(channels))
    smaller.load_state_dict(state)
    return smaller.train(vae.training)


@torch.no_grad()
def add_refiner(vae: AutoencoderKLCPGG, refiner_channels: int) -> AutoencoderKLCPGG:
    """A new 3D-VAE with `refiner_channels`, which decodes exactly as `vae` does until it is trained further.

    Raises:
        ValueError: `vae` has a refiner already.
    """
    if vae.decoder.refiner is not None:
        raise ValueError(f"this 3D-VAE already has {vae.config.refiner_channels} refiner channels; train it as it is.")
    settings = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    refined = AutoencoderKLCPGG(**{**settings, "refiner_channels": refiner_channels})
    refined.load_state_dict({**refined.state_dict(), **vae.state_dict()})
    return refined.train(vae.training)


def _identity(width: int) -> torch.Tensor:
    return torch.eye(width).view(width, width, 1, 1, 1)
