"""Requested phenotypes: `--set NAME=VALUE`, a CSV table, or a JSON file of one heart."""

from pathlib import Path

import numpy as np

from cpgg_hf.errors import PhenotypeError, RequestError
from cpgg_hf.phenotypes import as_array, complete_identities, read_csv
from cpgg_hf.phenotypes.json_file import read_json


def read_request(path: str | None, assignments: list[tuple[str, float]]) -> np.ndarray | None:
    """The requested phenotypes (B, 82), NaN = to be sampled; None if nothing is requested.

    Args:
        path: a CSV table with one row per heart, or a JSON file of one heart, `{"phenotypes": {name: value}}`.
        assignments: from `options.assignment`.

    Raises:
        PhenotypeError: unknown names, wrong units or contradictions.
        RequestError: no such file, or --set gives a name twice.
    """
    if path is None and not assignments:
        return None
    if path is None:
        return _checked(as_array(unique(assignments, "--set")))
    if not Path(path).is_file():
        raise RequestError(f"there is no file {path}; give a CSV table or a JSON file of phenotypes.")
    if path.endswith(".json"):
        return _checked(read_json(path)[None], path)
    return _checked(read_csv(path), path)


def unique(assignments: list[tuple[str, float]], flag: str) -> dict[str, float]:
    """Assignments as a dict; RequestError if a name occurs twice."""
    names = [name for name, _ in assignments]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise RequestError(f"{flag} gives {min(repeated)} more than once; give it once.")
    return dict(assignments)


def _checked(array: np.ndarray, path: str | None = None) -> np.ndarray:
    try:
        return complete_identities(array)
    except PhenotypeError as error:
        raise PhenotypeError(f"{path}: {error}" if path else str(error)) from error
