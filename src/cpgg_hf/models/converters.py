"""Converts published CPGG weights (transformer, phenotype VAE) to this package; no tensor is dropped silently."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from cpgg_hf.errors import CheckpointError
from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel
from cpgg_hf.models.phenotype_vae import CPGGPhenotypeVAE

UNUSED_PREFIXES = ("decoder_pred.", "rep_embedder.")
"""Published tensors of the transformer that the published code never uses."""
EXTRA_NAMES = ("missing_phenotype_embedding",)
"""Tensors of `CPGGMARModel` without a published counterpart: zeros, which have no effect."""

_STRIDES = (2, 8, 8)
_PARAMETERS = {
    "fake_latent": "null_condition_embedding",
    "mask_token": "mask_token",
    "encoder_pos_embed_learned": "encoder_position_embedding",
    "decoder_pos_embed_learned": "decoder_position_embedding",
    "diffusion_pos_embed_learned": "diffusion_position_embedding",
}
_MODULES = {
    "class_emb": "condition_projection.0",
    "z_proj": "token_projection",
    "z_proj_ln": "embedding_norm",
    "encoder_norm": "encoder_norm",
    "decoder_embed": "decoder_projection",
    "decoder_norm": "decoder_norm",
    "diffloss.net.time_embed.mlp.0": "diffusion_head.time_embedding.0",
    "diffloss.net.time_embed.mlp.2": "diffusion_head.time_embedding.2",
    "diffloss.net.cond_embed": "diffusion_head.condition_projection",
    "diffloss.net.input_proj": "diffusion_head.input_projection",
    "diffloss.net.final_layer.adaLN_modulation.1": "diffusion_head.output.modulation",
    "diffloss.net.final_layer.linear": "diffusion_head.output.linear",
}
_LAYER_MODULES = {
    "norm1": "attention_norm",
    "attn.proj": "attention.output",
    "norm2": "mlp_norm",
    "mlp.fc1": "mlp_in",
    "mlp.fc2": "mlp_out",
}
_HEAD_MODULES = {
    "in_ln": "norm",
    "adaLN_modulation.1": "modulation",
    "mlp.0": "linear_in",
    "mlp.2": "linear_out",
}
_RENAMED = {"fc_mu": "latent_mean", "fc_var": "latent_logvar", "final_layer": "decoder_output"}
_SAMPLER_BUFFERS = (
    "mixture_weights",
    "mixture_means",
    "mixture_covariances",
    "residual_means",
    "residual_slopes",
    "residual_covariances",
)


def convert_published_mar(
    state_dict: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    phenotype_mean: list[float] | None = None,
    phenotype_sd: list[float] | None = None,
) -> tuple[CPGGMARConfig, dict[str, torch.Tensor]]:
    """Converts a published transformer.

    Args:
        state_dict: the published tensors by name.
        config: the published sizes: `img`, `patch`, `zc`, `dim`, `enc`, `ddim`, `dec`, `heads`, `buffer`, `dd`, `dw`.
        phenotype_mean: mean of each phenotype, which published checkpoints do not store. Without mean and sd the model
            expects standardised phenotypes instead of physical units.
        phenotype_sd: standard deviation of each phenotype.

    Returns:
        The configuration, and the complete state dict of `CPGGMARModel(configuration)`. Tensors with
        `UNUSED_PREFIXES` are dropped, `EXTRA_NAMES` are added.

    Raises:
        CheckpointError: sizes or tensors are missing, tensors are unknown or have a wrong shape.
    """
    sizes = ("img", "patch", "zc", "dim", "enc", "ddim", "dec", "heads", "buffer", "dd", "dw")
    absent = [name for name in sizes if name not in config]
    if absent:
        raise CheckpointError(f"the published sizes lack {absent}; give {list(sizes)}.")
    num_phenotypes = state_dict["class_emb.weight"].shape[1] if "class_emb.weight" in state_dict else 82
    ours = CPGGMARConfig(
        num_phenotypes=num_phenotypes,
        phenotype_mean=phenotype_mean or [0.0] * num_phenotypes,
        phenotype_sd=phenotype_sd or [1.0] * num_phenotypes,
        latent_channels=config["zc"],
        latent_size=tuple(size // stride for size, stride in zip(config["img"], _STRIDES, strict=True)),
        patch_size=tuple(config["patch"]),
        encoder_width=config["dim"],
        encoder_depth=config["enc"],
        decoder_width=config["ddim"],
        decoder_depth=config["dec"],
        num_attention_heads=config["heads"],
        num_condition_tokens=config["buffer"],
        head_width=config["dw"],
        head_depth=config["dd"],
    )
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in CPGGMARModel(ours).state_dict().items()}

    sources = _published_names(ours)
    unknown = [name for name in state_dict if name not in sources and not name.startswith(UNUSED_PREFIXES)]
    missing = [name for name in sources if name not in state_dict]
    if unknown or missing:
        raise CheckpointError(
            f"these are not the weights of the published transformer of these sizes: unknown tensors "
            f"{sorted(unknown)}, missing tensors {sorted(missing)}; check the sizes and the file."
        )
    converted = {name: torch.zeros(expected[name]) for name in EXTRA_NAMES}
    for name, targets in sources.items():
        tensor = state_dict[name]
        while name in _PARAMETERS and tensor.ndim > len(expected[targets[0]]) and tensor.shape[0] == 1:
            tensor = tensor[0]  # published with batch dimensions of one
        parts = tensor.chunk(len(targets)) if len(targets) > 1 else (tensor,)
        converted.update((target, part.clone()) for target, part in zip(targets, parts, strict=True))

    wrong = [
        f"{name} has shape {tuple(tensor.shape)}, expected {tuple(expected[name])}"
        for name, tensor in converted.items()
        if tensor.shape != expected[name]
    ]
    if wrong:
        raise CheckpointError(f"the published tensors do not fit the sizes: {', '.join(wrong)}; check the sizes.")
    return ours, converted


def _published_names(config: CPGGMARConfig) -> dict[str, tuple[str, ...]]:
    """Our names for each published tensor; the fused query, key and value has three."""
    modules: dict[str, tuple[str, ...]] = {name: (ours,) for name, ours in _MODULES.items()}
    for stack, depth in (("encoder", config.encoder_depth), ("decoder", config.decoder_depth)):
        for index in range(depth):
            published, ours = f"{stack}_blocks.{index}", f"{stack}_layers.{index}"
            modules |= {f"{published}.{name}": (f"{ours}.{target}",) for name, target in _LAYER_MODULES.items()}
            modules[f"{published}.attn.qkv"] = tuple(f"{ours}.attention.{part}" for part in ("query", "key", "value"))
    for index in range(config.head_depth):
        published, block = f"diffloss.net.res_blocks.{index}", f"diffusion_head.blocks.{index}"
        modules |= {f"{published}.{name}": (f"{block}.{target}",) for name, target in _HEAD_MODULES.items()}
    names: dict[str, tuple[str, ...]] = {name: (ours,) for name, ours in _PARAMETERS.items()}
    for name, targets in modules.items():
        names |= {f"{name}.{kind}": tuple(f"{target}.{kind}" for target in targets) for kind in ("weight", "bias")}
    return names


def convert_published_phenotype_vae(
    state_dict: Mapping[str, torch.Tensor],
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Converts a published phenotype VAE.

    The published code stores no phenotype mean and sd: add those of the training set to the returned config. The
    sampler's buffers keep their initial values until `fit_sampler` is called.

    Args:
        state_dict: tensors `encoder.*`, `fc_mu.*`, `fc_var.*`, `decoder_input.*`, `decoder.*` and `final_layer.*`.

    Returns:
        The config and the state dict for `CPGGPhenotypeVAE(**config).load_state_dict(state_dict)`.

    Raises:
        CheckpointError: a tensor is missing, unknown or of the wrong shape.
    """
    config = {"hidden_dims": _hidden_dims(state_dict), "latent_dim": _rows(state_dict, "fc_mu.weight")}
    expected = CPGGPhenotypeVAE(**config).state_dict()
    converted = {name: expected[name] for name in _SAMPLER_BUFFERS}
    for name, tensor in state_dict.items():
        module, _, rest = name.partition(".")
        ours = f"{_RENAMED.get(module, module)}.{rest}"
        if ours not in expected or module in _RENAMED.values():
            raise CheckpointError(f"{name!r} is not a tensor of the published phenotype VAE; check the weights.")
        if tensor.shape != expected[ours].shape:
            raise CheckpointError(
                f"{name!r} has shape {tuple(tensor.shape)}, expected {tuple(expected[ours].shape)}; check the weights."
            )
        converted[ours] = tensor
    missing = sorted(expected.keys() - converted.keys())
    if missing:
        raise CheckpointError(
            f"the published phenotype VAE lacks the tensors that become {', '.join(missing)}; check the weights."
        )
    return config, converted


def _rows(state_dict: Mapping[str, torch.Tensor], name: str) -> int:
    if name not in state_dict:
        raise CheckpointError(f"{name!r} is missing; check that these are the weights of the published phenotype VAE.")
    return len(state_dict[name])


def _hidden_dims(state_dict: Mapping[str, torch.Tensor]) -> tuple[int, ...]:
    # Each block is Linear, BatchNorm, LeakyReLU, so every third entry of the encoder is a Linear.
    indices = sorted({int(match[1]) for name in state_dict if (match := re.match(r"encoder\.(\d+)\.", name))})
    return tuple(_rows(state_dict, f"encoder.{index}.weight") for index in indices if index % 3 == 0)
