"""Cines as files: every module here that has a `SUFFIX` is a format, and its `write_<module>(path, cine)` writes it.

A new format is one new module; `cpgg generate --format` offers it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpgg_hf.cine import Cine


@cache
def formats() -> dict[str, ModuleType]:
    """The modules of all formats by name; their libraries are only loaded when they write."""
    modules = {found.name: import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)}
    return {name: module for name, module in modules.items() if hasattr(module, "SUFFIX")}


def export_path(stem: Path, name: str) -> Path:
    """The file or folder of a format: `cine_00000` is `cine_00000.nii.gz` as "nifti"."""
    return stem.with_name(stem.name + formats()[name].SUFFIX)


def write_cine(stem: Path, cine: Cine, names: Iterable[str] = ("nifti",)) -> None:
    """Write a cine in several formats, see `formats` and `export_path`; each file or folder appears complete."""
    for name in names:
        getattr(formats()[name], f"write_{name}")(export_path(stem, name), cine)
