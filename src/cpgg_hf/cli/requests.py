"""Phenotypes as the command line gives them: `--set NAME=VALUE`, a CSV table, or a JSON file of one subject."""

import argparse
from pathlib import Path

import numpy as np

from cpgg_hf.errors import PhenotypeError, RequestError
from cpgg_hf.phenotypes import PHENOTYPES, as_array, complete_identities, read_csv
from cpgg_hf.phenotypes.units import describe, find_unit_errors


def assignment(text: str) -> tuple[str, float]:
    """`LVEF=30` as ("LVEF", 30.0); the type of `--set`."""
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE with a number, such as LVEF=30") from None


def read_request(path: str | None, assignments: list[tuple[str, float]]) -> np.ndarray | None:
    """What a user asks for as (B, 82), NaN = open; None if nothing is asked for.

    What contradicts itself is found here, before a model is loaded.

    Args:
        path: of a CSV table with one row a heart, or a JSON file of one heart, `{"phenotypes": {name: value}}`.
        assignments: from `assignment`.

    Raises:
        PhenotypeError: unknown names, wrong units, contradictions.
        RequestError: no such file, or a name that --set gives twice.
    """
    if path is None and not assignments:
        return None
    if path is None:
        repeated = {name for name, _ in assignments if sum(name == other for other, _ in assignments) > 1}
        if repeated:
            raise RequestError(f"--set gives {min(repeated)} more than once; give it once.")
        return _checked(as_array(dict(assignments)))
    if not Path(path).is_file():
        raise RequestError(f"there is no file {path}; give a CSV table or a JSON file of phenotypes.")
    if path.endswith(".json"):
        from cpgg_hf.preparation.one_scan import read_phenotypes_json

        return _checked(read_phenotypes_json(path)[None], path)
    return _checked(read_csv(path), path)


def _checked(array: np.ndarray, path: str | None = None) -> np.ndarray:
    try:
        return complete_identities(array)
    except PhenotypeError as error:
        raise PhenotypeError(f"{path}: {error}" if path else str(error)) from error


def check_drawn(drawn: np.ndarray) -> None:
    """Raise `PhenotypeError` for the first value of (B, 82) phenotypes drawn for a request that no heart can have."""
    for row, column, _ in find_unit_errors(drawn):
        raise PhenotypeError(
            f"row {row}: {describe(PHENOTYPES[column], drawn[row, column])} would go with what was asked for; ask for "
            "values within their plausible ranges."
        )
