"""Looks at a checkpoint's files before they are loaded, so that a damaged or foreign one gives one clear sentence.

The libraries' own loaders say less than a user needs (a traceback from a tensor reader), or nothing: weights that are
missing from a file are initialised at random.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from cpgg_hf.errors import CheckpointError, brief

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


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
