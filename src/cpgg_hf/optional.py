"""Imports of optional dependencies, with an error that names the extra to install."""

from importlib import import_module
from typing import Any


def import_optional(module: str, extra: str) -> Any:
    """Import a module that one of the package's extras brings.

    Raises:
        ImportError: naming the extra to install.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        package = module.split(".")[0]
        raise ImportError(
            f"{package} is needed for this and is not installed; install it with `pip install 'cpgg_hf[{extra}]'`."
        ) from None
