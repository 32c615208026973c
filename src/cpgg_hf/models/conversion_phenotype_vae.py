"""Strict conversion of a phenotype VAE in the published layout into `CPGGPhenotypeVAE`.

Every published tensor is mapped or the conversion fails. The published code saves no scaler (it fits one for each
split), so the mean and sd of the phenotypes have to be put into the returned config by whoever knows them; the
sampler's buffers do not exist there and keep their initial values until `fit_sampler` is called.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch

from cpgg_hf.models.phenotype_vae import CPGGPhenotypeVAE

_RENAMED = {"fc_mu": "latent_mean", "fc_var": "latent_logvar", "final_layer": "decoder_output"}
_SAMPLER_BUFFERS = (
    "mixture_weights",
    "mixture_means",
    "mixture_covariances",
    "residual_means",
    "residual_slopes",
    "residual_covariances",
)


def convert_published_phenotype_vae(
    state_dict: Mapping[str, torch.Tensor],
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Convert a published state dict.

    Args:
        state_dict: tensors `encoder.*`, `fc_mu.*`, `fc_var.*`, `decoder_input.*`, `decoder.*` and `final_layer.*`.

    Returns:
        the config and the state dict for `CPGGPhenotypeVAE(**config).load_state_dict(state_dict)`.

    Raises:
        ValueError: a tensor is missing, unknown or of the wrong shape; the message names it.
    """
    config = {"hidden_dims": _hidden_dims(state_dict), "latent_dim": _rows(state_dict, "fc_mu.weight")}
    expected = CPGGPhenotypeVAE(**config).state_dict()
    converted = {name: expected[name] for name in _SAMPLER_BUFFERS}
    for name, tensor in state_dict.items():
        room, _, rest = name.partition(".")
        ours = f"{_RENAMED.get(room, room)}.{rest}"
        if ours not in expected or room in _RENAMED.values():
            raise ValueError(f"unknown tensor {name!r}: this is no phenotype VAE in the published layout")
        if tensor.shape != expected[ours].shape:
            raise ValueError(f"{name!r} has shape {tuple(tensor.shape)}, expected {tuple(expected[ours].shape)}")
        converted[ours] = tensor
    missing = sorted(expected.keys() - converted.keys())
    if missing:
        raise ValueError(f"the published state dict lacks what becomes {', '.join(missing)}")
    return config, converted


def _rows(state_dict: Mapping[str, torch.Tensor], name: str) -> int:
    if name not in state_dict:
        raise ValueError(f"{name!r} is missing: this is no phenotype VAE in the published layout")
    return len(state_dict[name])


def _hidden_dims(state_dict: Mapping[str, torch.Tensor]) -> tuple[int, ...]:
    # Each block is Linear, BatchNorm, LeakyReLU, so every third entry of the encoder is a Linear.
    indices = sorted({int(match[1]) for name in state_dict if (match := re.match(r"encoder\.(\d+)\.", name))})
    return tuple(_rows(state_dict, f"encoder.{index}.weight") for index in indices if index % 3 == 0)
