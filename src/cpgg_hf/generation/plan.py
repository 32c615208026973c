"""`generation.json`: all that a generated set's bytes follow from, fixed by the first process that works on it."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cpgg_hf.errors import RequestError, brief
from cpgg_hf.files.staging import staged_file
from cpgg_hf.generation.claims import Claims
from cpgg_hf.version import __version__

if TYPE_CHECKING:
    from cpgg_hf.pipeline_cpgg import CPGGPipeline

PLAN_FILE = "generation.json"
FORMAT_VERSION = 1
_LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "pyarrow")


def environment(pipe: CPGGPipeline) -> dict[str, Any]:
    """What rounding depends on beside the settings: processor, accelerator, number type, threads, versions."""
    device = pipe.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "torch_threads": torch.get_num_threads(),
        "versions": {"cpgg_hf": __version__, **{name: version(name) for name in _LIBRARIES}},
    }


def fingerprints(components: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of each component's configuration and, if it is a network, of its weights as they are loaded."""
    result = {}
    for name, component in components.items():
        config = component.config.to_dict() if hasattr(component.config, "to_dict") else dict(component.config)
        # Where it was loaded from, by which version, and who may see it (the plan's own entry) change no byte.
        settings = {
            key: value
            for key, value in config.items()
            if not (key.startswith("_") or key.endswith("_version") or key == "data_policy")
        }
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        if isinstance(component, torch.nn.Module):
            for key, tensor in sorted(component.state_dict().items()):
                digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        result[name] = digest.hexdigest()
    return result


def plan_digest(plan: Mapping[str, Any]) -> str:
    """What a shard remembers of the plan that it belongs to."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def fix_plan(folder: Path, plan: Mapping[str, Any], claims: Claims) -> None:
    """Writes the plan, or compares it with the one that the folder has.

    Raises:
        RequestError: the folder's plan differs, or cannot be read.
    """
    path = folder / PLAN_FILE
    while not path.exists():
        claim = claims.take(["plan"])
        if claim is None:
            time.sleep(0.1)
            continue
        with claim:
            if not path.exists():
                with staged_file(path) as partial:
                    partial.write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read ({brief(error)}); choose another folder.") from None
    before, now = _flat(found), _flat(plan)
    differing = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if differing:
        shown = ", ".join(f"{key} = {before.get(key)!r} (now {now.get(key)!r})" for key in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise RequestError(f"{path} was begun with {shown}{more}; go on with the same, or choose another folder.")


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """Nested objects as {"versions.torch": ...}."""
    if not isinstance(content, Mapping):
        return {prefix: content}
    return {
        name: leaf
        for key, value in content.items()
        for name, leaf in _flat(value, f"{prefix}.{key}" if prefix else key).items()
    }
