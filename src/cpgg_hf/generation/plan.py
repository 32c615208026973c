"""The settings of a run in `generation.json`: everything that the bytes of generated cines depend on."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from importlib.metadata import version
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch

from cpgg_hf.errors import RequestError
from cpgg_hf.models.guidance import ConstantGuidance
from cpgg_hf.version import __version__

if TYPE_CHECKING:
    from cpgg_hf.pipeline_cpgg import CPGGPipeline

PLAN_FILE = "generation.json"
FORMAT_VERSION = 2
_LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "pyarrow")


def environment(pipe: CPGGPipeline) -> dict[str, Any]:
    """What affects rounding besides the settings: processor, accelerator, number type, threads and versions."""
    device = pipe.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "dtype": str(pipe.mar.dtype).removeprefix("torch."),
        "torch_threads": torch.get_num_threads(),
        "versions": {"cpgg_hf": __version__, **{name: version(name) for name in _LIBRARIES}},
    }


def guidance_record(guidance_scale: Any) -> Any:
    """A guidance scale or rule as JSON: a number, or the name and the fields of a rule that is a dataclass.

    Raises:
        RequestError: a rule that does not show what it depends on.
    """
    if type(guidance_scale) is ConstantGuidance:  # a subclass is another rule
        guidance_scale = guidance_scale.guidance_scale
    if isinstance(guidance_scale, Real):
        return float(guidance_scale)
    rule = type(guidance_scale)
    if is_dataclass(rule):
        record = {"rule": f"{rule.__module__}.{rule.__qualname__}", **asdict(guidance_scale)}
        with suppress(TypeError, ValueError):
            return json.loads(json.dumps(record, allow_nan=False))
    raise RequestError(
        f"the guidance rule {rule.__qualname__} cannot be recorded with the data set; make it a dataclass whose "
        "fields are numbers or text."
    )


def fingerprints(components: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of each component's configuration and, for a network, its weights."""
    result = {}
    for name, component in components.items():
        config = component.config.to_dict() if hasattr(component.config, "to_dict") else dict(component.config)
        # Path, library version and policy do not affect the output.
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
