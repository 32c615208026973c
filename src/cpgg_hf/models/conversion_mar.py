"""Turns a published CPGG transformer (its state dict) into a `CPGGMARModel`; no tensor is lost in silence."""

from collections.abc import Mapping
from typing import Any

import torch

from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
from cpgg_hf.models.modeling_cpgg_mar import CPGGMARModel

UNUSED_PREFIXES = ("decoder_pred.", "rep_embedder.")
EXTRA_NAMES = ("missing_phenotype_embedding",)

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


def convert_published_mar(
    state_dict: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    phenotype_mean: list[float] | None = None,
    phenotype_sd: list[float] | None = None,
) -> tuple[CPGGMARConfig, dict[str, torch.Tensor]]:
    """Converts a state dict under the published names.

    Args:
        state_dict: the published tensors by name.
        config: the published sizes: `img`, `patch`, `zc`, `dim`, `enc`, `ddim`, `dec`, `heads`, `buffer`, `dd`, `dw`.
        phenotype_mean: mean of each phenotype, which published checkpoints do not hold. Without mean and sd the model
            takes standardised phenotypes in place of physical units.
        phenotype_sd: standard deviation of each phenotype.

    Returns:
        the configuration, and a state dict that `CPGGMARModel(configuration)` loads whole. `UNUSED_PREFIXES` names
        what is left out (the published model never uses it), `EXTRA_NAMES` what is added: zeros, without effect.

    Raises:
        ValueError: tensors are unknown, missing or of a wrong shape; the message names them.
    """
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
        raise ValueError(
            f"Not the published transformer of this configuration: unknown tensors {sorted(unknown)}, missing tensors "
            f"{sorted(missing)}."
        )
    converted = {name: torch.zeros(expected[name]) for name in EXTRA_NAMES}
    for name, targets in sources.items():
        tensor = state_dict[name]
        while name in _PARAMETERS and tensor.ndim > len(expected[targets[0]]) and tensor.shape[0] == 1:
            tensor = tensor[0]  # published with batch dimensions of one
        parts = tensor.chunk(len(targets)) if len(targets) > 1 else (tensor,)
        converted.update((target, part.clone()) for target, part in zip(targets, parts, strict=True))

    wrong = [
        f"{name} {tuple(tensor.shape)} in place of {tuple(expected[name])}"
        for name, tensor in converted.items()
        if name in expected and tensor.shape != expected[name]
    ]
    if wrong or converted.keys() != expected.keys():
        raise ValueError(
            f"The published tensors do not fit the configuration: wrong shapes {wrong}, unset "
            f"{sorted(expected.keys() - converted.keys())}."
        )
    return ours, converted


def _published_names(config: CPGGMARConfig) -> dict[str, tuple[str, ...]]:
    """Each published tensor's name and ours for it; a fused query, key and value has three."""
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
