"""Looks at a checkpoint's files before and after loading, so that a damaged or foreign one gives one clear sentence.

The libraries' own loaders say less than a user needs (a traceback from a tensor reader), or nothing: weights that are
missing from a file are initialised at random.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class CheckpointError(ValueError):
    """A folder that does not hold a whole CPGG pipeline; the message says what is wrong with which file."""


def check_index(folder: Path, class_name: str, components: Iterable[str]) -> None:
    """Checks that `model_index.json` describes a pipeline of `class_name` and that its components' folders exist.

    Args:
        folder: of the pipeline.
        class_name: of the pipeline.
        components: those that the folder must hold.

    Raises:
        CheckpointError: it does not.
    """
    path = folder / "model_index.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no model_index.json: it is no pipeline; give the folder that has it.")
    index = _read_json(path)
    found = index.get("_class_name")
    if class_name not in (found if isinstance(found, list) else [found]):
        raise CheckpointError(f"{path} describes a {found}, not a {class_name}; give a checkpoint of this package.")
    for name in components:
        if name not in index or not (folder / name).is_dir():
            raise CheckpointError(f"{folder} lacks the component {name}; download the checkpoint again.")


def check_weights(folder: Path) -> None:
    """Checks that a component's folder holds readable safetensors and a readable config.

    Raises:
        CheckpointError: it does not; pickles are refused, as loading one can run any code.
    """
    weights = sorted(folder.glob("*.safetensors"))
    pickles = sorted(path for path in folder.glob("*") if path.suffix in _PICKLES)
    if not weights and pickles:
        raise CheckpointError(
            f"{pickles[0]} is a pickle, which can run any code when it is loaded; convert it to safetensors first."
        )
    if not weights:
        raise CheckpointError(f"{folder} holds no .safetensors file; download the checkpoint again.")
    _read_json(folder / "config.json")
    for path in weights:
        _tensor_names(path)


def check_tensors(folder: Path, model: torch.nn.Module) -> None:
    """Checks that the files held exactly the weights of the model that was loaded from them.

    Raises:
        CheckpointError: naming the first tensor too few or too many.
    """
    names = {name for path in folder.glob("*.safetensors") for name in _tensor_names(path)}
    expected = set(model.state_dict())
    for verb, wrong in (("lacks", expected - names), ("holds", names - expected)):
        if wrong:
            raise CheckpointError(
                f"{folder} {verb} {len(wrong)} tensors that its config.json does not account for, such as "
                f"{min(wrong)!r}; weights and configuration do not belong together."
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is missing or damaged ({error}); download the checkpoint again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object; download the checkpoint again.")
    return content


def _tensor_names(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); download the checkpoint again.") from error
