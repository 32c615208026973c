"""Describes the networks of a checkpoint by their configurations and the headers of their weights."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.models.configuration_cpgg_mar import CPGGMARConfig
from cpgg_hf.models.phenotype_vae import CPGGPhenotypeVAE
from cpgg_hf.segmentation.segmenter import CineSegmenter

RECORD_FILE = "training_record.json"

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64"}


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is none."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def describe_parts(folder: Path) -> list[dict[str, Any]]:
    """Every network in a folder and its subfolders, by name.

    Returns:
        For each `name` of its folder, `class_name`, the `module` to import it from, its `configuration` in words,
        `num_stored` (numbers, weights and fitted statistics together) and their `dtypes`.
    """
    places = sorted({path.parent for path in folder.rglob("*.safetensors")})
    return [_describe(place) for place in places if (place / "config.json").is_file()]


def _describe(folder: Path) -> dict[str, Any]:
    config = read_object(folder / "config.json")
    class_name = config.get("_class_name") or (config.get("architectures") or ["unknown"])[0]
    module, describe = _CONFIGURATIONS.get(class_name, ("cpgg_hf", lambda _: ""))
    with torch.device("meta"):  # the network's sizes, not its weights
        configuration = describe(folder)
    return {
        "name": folder.name, "class_name": class_name, "module": module, "configuration": configuration,
        **_stored(folder),
    }  # fmt: skip


def _stored(folder: Path) -> dict[str, Any]:
    total, dtypes = 0, set()
    paths = list(folder.glob("*.safetensors"))
    variants = [path for path in paths if "." in path.stem]  # such as model.fp16.safetensors
    for path in [path for path in paths if path not in variants] or variants:
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                tensor = file.get_slice(name)
                total += math.prod(tensor.get_shape())
                dtypes.add(_DTYPES.get(tensor.get_dtype(), tensor.get_dtype()))
    return {"num_stored": total, "dtypes": ", ".join(sorted(dtypes - {"int64"}))}


def _phenotype_vae(folder: Path) -> str:
    config = CPGGPhenotypeVAE.from_config(CPGGPhenotypeVAE.load_config(folder)).config
    sampler = "with the fitted sampler" if config.sampler_fitted else "without a fitted sampler"
    return f"82-{'-'.join(map(str, config.hidden_dims))} to {config.latent_dim} latents, {sampler}"


def _vae(folder: Path) -> str:
    network = AutoencoderKLCPGG.from_config(AutoencoderKLCPGG.load_config(folder))
    config = network.config
    stem = "x".join(map(str, config.patch_size))
    parts = [] if stem == "1x1x1" else [f"stem {stem}"]
    parts.append(f"widths {_joined(config.block_out_channels)}")
    if config.refiner_channels:
        parts.append(f"refiner {config.refiner_channels}")
    return ", ".join([*parts, f"latents {' x '.join(map(str, network.latent_size))}"])


def _mar(folder: Path) -> str:
    config = CPGGMARConfig.from_pretrained(folder)
    encoder = f"encoder {config.encoder_depth} layers of {config.encoder_width}"
    decoder = f"decoder {config.decoder_depth} layers of {config.decoder_width}"
    head = f"head {config.head_depth} x {config.head_width}"
    return f"{config.num_tokens} tokens of {config.token_dim}, {encoder}, {decoder}, {head}"


def _segmenter(folder: Path) -> str:
    config = CineSegmenter.from_config(CineSegmenter.load_config(folder)).config
    return f"2D U-Net on {len(config.context_frames)} frames, widths {_joined(config.block_out_channels)}"


def _joined(widths: Iterable[int]) -> str:
    return " / ".join(map(str, widths))


_CONFIGURATIONS: dict[str, tuple[str, Callable[[Path], str]]] = {
    "CPGGPhenotypeVAE": ("cpgg_hf", _phenotype_vae),
    "AutoencoderKLCPGG": ("cpgg_hf", _vae),
    "CPGGMARModel": ("cpgg_hf", _mar),
    "CineSegmenter": (CineSegmenter.__module__, _segmenter),
}
"""The module to import a class from, and its configuration in words."""
