"""Checkpoints that load with `trust_remote_code=True`, for the branch `remote-code` of their repository.

A separate branch, because `model_index.json` refers either to this package or to code files next to the weights.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from cpgg_hf.errors import PublishingError
from cpgg_hf.files.policy_record import is_hidden, recorded
from cpgg_hf.hub.policy import policy_of
from cpgg_hf.release.checkpoint_description import read_object
from cpgg_hf.release.remote_code import FILES, RemoteFile

REMOTE_CODE_BRANCH = "remote-code"


def write_remote_checkpoint(folder: Path, out: Path) -> None:
    """Copies a pipeline, or a single MAR, together with the code that it needs.

    Args:
        folder: folder that `save_pretrained` wrote; hidden files are not copied.
        out: a new or empty folder.

    Raises:
        PublishingError: the folder contains neither.
    """
    index = read_object(folder / "model_index.json")
    config = read_object(folder / "config.json")
    is_pipeline = index.get("_class_name") in ("CPGGPipeline", ["pipeline_cpgg", "CPGGPipeline"])
    if not is_pipeline and config.get("model_type") != "cpgg_mar":
        raise PublishingError(
            f"{folder} is neither a pipeline nor a MAR of this package; only these can load with code from the Hub."
        )
    with recorded(out, policy_of(folder)):
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and not is_hidden(name):
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, out / name)
        if not index:
            (file,) = (file for file in FILES if file.class_name == "CPGGMARModel")
            _add_auto_map(out / "config.json", file)
            (out / Path(file.path).name).write_text(file.text(), encoding="utf-8")
            return
        for file in FILES:
            path = Path(file.path)
            component = str(path.parent)
            if component == ".":
                index["_class_name"] = [path.stem, file.class_name]
            elif index[component][-1] == file.class_name:  # otherwise a scheduler of diffusers
                index[component] = [path.stem, file.class_name]
            else:
                continue
            (out / path).write_text(file.text(), encoding="utf-8")
            if (out / component / "config.json").is_file():
                _add_auto_map(out / component / "config.json", file)
        _write(out / "model_index.json", index)


def _add_auto_map(path: Path, file: RemoteFile) -> None:
    """Names the classes of a component in its configuration, for `AutoModel` of transformers or diffusers."""
    module = Path(file.path).stem
    auto_map = {"AutoModel": f"{module}.{file.class_name}"}
    if file.class_name == "CPGGMARModel":
        auto_map["AutoConfig"] = f"{module}.CPGGMARConfig"
    _write(path, {**read_object(path), "auto_map": auto_map})


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
