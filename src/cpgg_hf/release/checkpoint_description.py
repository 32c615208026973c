"""What a checkpoint consists of, read from its configurations and the headers of its weights."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORD_FILE = "training_record.json"

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64"}


@dataclass(frozen=True)
class Part:
    """One network of a checkpoint.

    Attributes:
        name: of its folder.
        class_name: of its model.
        configuration: its sizes in words.
        num_stored: numbers in its files, weights and fitted statistics together.
        dtypes: what they are stored as.
    """

    name: str
    class_name: str
    configuration: str
    num_stored: int
    dtypes: str


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def describe_parts(folder: Path) -> list[Part]:
    """Every network in a folder, itself or in folders of its own, by name."""
    places = sorted({path.parent for path in folder.rglob("*.safetensors")})
    return [describe_part(place) for place in places if (place / "config.json").is_file()]


def describe_part(folder: Path) -> Part:
    """The network in a folder."""
    config = read_object(folder / "config.json")
    class_name = config.get("_class_name") or (config.get("architectures") or ["unknown"])[0]
    describe = _CONFIGURATIONS.get(class_name)
    num_stored, dtypes = _stored(folder)
    return Part(folder.name, class_name, describe(config) if describe else "", num_stored, dtypes)


def _stored(folder: Path) -> tuple[int, str]:
    from safetensors import safe_open

    total, dtypes = 0, set()
    plain = [path for path in folder.glob("*.safetensors") if not _is_variant(path)]
    for path in plain or folder.glob("*.safetensors"):
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                tensor = file.get_slice(name)
                total += math.prod(tensor.get_shape())
                dtypes.add(_DTYPES.get(tensor.get_dtype(), tensor.get_dtype()))
    return total, ", ".join(sorted(dtypes - {"int64"}))


def _is_variant(path: Path) -> bool:
    return "." in path.name.removesuffix(".safetensors")


def _phenotype_vae(config: Mapping[str, Any]) -> str:
    widths = "-".join(map(str, config.get("hidden_dims", ())))
    sampler = "with the fitted sampler" if config.get("sampler_fitted") else "without a fitted sampler"
    return f"82-{widths} to {config.get('latent_dim')} latents, {sampler}"


def _vae(config: Mapping[str, Any]) -> str:
    widths = " / ".join(map(str, config.get("block_out_channels", ())))
    stem, refiner = config.get("patch_size", [1, 1, 1]), config.get("refiner_channels", 0)
    levels = 2 ** (len(config.get("block_out_channels", [0])) - 1)
    shrink = (stem[0] * math.prod(config.get("temporal_factors", [])), stem[1] * levels, stem[2] * levels)
    size = [side // factor for side, factor in zip(config.get("sample_size", (50, 96, 96)), shrink, strict=True)]
    latents = " x ".join(map(str, [config.get("latent_channels"), *size]))
    parts = [f"widths {widths}", f"latents {latents}"]
    if stem != [1, 1, 1]:
        parts.insert(0, f"stem {'x'.join(map(str, stem))}")
    if refiner:
        parts.insert(-1, f"refiner {refiner}")
    return ", ".join(parts)


def _mar(config: Mapping[str, Any]) -> str:
    patch, size = config.get("patch_size", (5, 2, 2)), config.get("latent_size", (25, 12, 12))
    tokens = math.prod(side // step for side, step in zip(size, patch, strict=True))
    width = config.get("latent_channels", 16) * math.prod(patch)
    encoder, decoder = (
        f"{part} {config.get(f'{part}_depth')} layers of {config.get(f'{part}_width')}"
        for part in ("encoder", "decoder")
    )
    head = f"head {config.get('head_depth')} x {config.get('head_width')}"
    return f"{tokens} tokens of {width}, {encoder}, {decoder}, {head}"


def _segmenter(config: Mapping[str, Any]) -> str:
    widths = " / ".join(map(str, config.get("block_out_channels", ())))
    return f"2D U-Net on {len(config.get('context_frames', ()))} frames, widths {widths}"


_CONFIGURATIONS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "CPGGPhenotypeVAE": _phenotype_vae,
    "AutoencoderKLCPGG": _vae,
    "CPGGMARModel": _mar,
    "CineSegmenter": _segmenter,
}
