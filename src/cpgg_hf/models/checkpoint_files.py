"""Checks the files of a checkpoint before loading, so that a damaged or foreign one gives one clear sentence.

The libraries' loaders raise unclear errors, or none: weights that are missing from a file are initialised randomly.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from cpgg_hf.errors import CheckpointError, brief
from cpgg_hf.models.size_bounds import check_sizes

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def check_model(folder: Path, model_class: Any) -> None:
    """Checks that a folder contains the configuration of a `model_class` and exactly its weights, as safetensors.

    Raises:
        CheckpointError: files are missing or do not fit, or the weights are pickles, which can run code when loaded.
    """
    paths = sorted(folder.glob("*.safetensors"))
    pickles = sorted(path for path in folder.glob("*") if path.suffix in _PICKLES)
    if not paths and pickles:
        raise CheckpointError(
            f"{pickles[0]} is a pickle, which can run code when it is loaded; convert it to safetensors first."
        )
    if not paths:
        raise CheckpointError(f"{folder} contains no .safetensors file; download the checkpoint again.")
    expected = _shapes_of_configuration(folder, model_class)
    found = {name: shape for path in paths for name, shape in _read_weights(path).items()}
    for verb, wrong, reason in (
        ("lacks", expected.keys() - found.keys(), "expects"),
        ("contains", found.keys() - expected.keys(), "does not expect"),
    ):
        if wrong:
            raise CheckpointError(
                f"{folder} {verb} {len(wrong)} tensors that its config.json {reason}, such as {min(wrong)!r}; "
                "use weights and configuration of the same checkpoint."
            )
    for name in sorted(expected):
        if found[name] != expected[name]:
            raise CheckpointError(
                f"{name!r} in {folder} has shape {found[name]}, but its config.json expects {expected[name]}; use "
                "weights and configuration of the same checkpoint."
            )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a checkpoint.

    Raises:
        CheckpointError: the file is missing or contains something else.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise ValueError("it is not a file")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is missing or damaged ({brief(error)}); download the checkpoint again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} does not contain a JSON object; download the checkpoint again.")
    try:
        check_sizes(content)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged or not of this package: {error}") from error
    return content


def _shapes_of_configuration(folder: Path, model_class: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of the model that config.json describes, built without memory for its weights."""
    path = folder / "config.json"
    config = read_json(path)
    # diffusers writes one name, transformers a list of them.
    declared = config.get("_class_name", (config.get("architectures") or [None])[0])
    if declared != model_class.__name__:
        raise CheckpointError(
            f"{path} describes {declared or 'no model'}, not {model_class.__name__}; give a checkpoint of this "
            "package."
        )
    try:
        with torch.device("meta"):
            if hasattr(model_class, "config_class"):  # transformers
                model = model_class(model_class.config_class.from_pretrained(folder))
            else:
                model = model_class.from_config(model_class.load_config(folder))
    except Exception as error:  # wrong values raise any kind of error in a constructor
        raise CheckpointError(
            f"{path} is not a valid configuration of {model_class.__name__} ({brief(error)}); download the checkpoint "
            "again."
        ) from error
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _read_weights(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of a file, all of whose values must be finite."""
    shapes = {}
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; download the checkpoint again.")
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                tensor = file.get_tensor(name)
                shapes[name] = tuple(tensor.shape)
                if not torch.isfinite(tensor).all():
                    raise CheckpointError(
                        f"{name!r} in {path} contains NaN or infinite values (training diverged, or the file is "
                        "damaged); use another checkpoint."
                    )
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged ({brief(error)}); download the checkpoint again.") from error
    return shapes
