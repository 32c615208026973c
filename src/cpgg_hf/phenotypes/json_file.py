"""Phenotypes of one heart from a JSON file."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf.errors import InputError, PhenotypeError, brief
from cpgg_hf.phenotypes.identities import complete_identities
from cpgg_hf.phenotypes.tables import as_array

_FORM = '{"phenotypes": {"LVEF": 61.0, ...}}'


def read_json(path: str | os.PathLike[str]) -> np.ndarray:
    """The (82,) phenotypes of a JSON file `{"phenotypes": {name or field: value}}`.

    Values that follow from the given ones are filled in (two of EDV, ESV, SV, EF give the others); the rest is NaN.

    Raises:
        InputError: no such file, or not of this form.
        PhenotypeError: an unknown phenotype, an impossible value, or values that contradict each other.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_unique_names)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({brief(error)}); expected {_FORM}.") from None
    if not isinstance(content, dict) or not isinstance(content.get("phenotypes"), dict):
        raise InputError(f"{path} holds no phenotypes; expected {_FORM}.")
    try:
        array = complete_identities(as_array(content["phenotypes"]))
    except PhenotypeError as error:
        raise PhenotypeError(f"{path}: {error}") from error
    if len(array) > 1:
        raise InputError(f"{path} holds lists of {len(array)} values; expected one heart, {_FORM}.")
    return array[0]


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    (name, number), *_ = Counter(name for name, _ in pairs).most_common(1) or [("", 0)]
    if number > 1:
        raise ValueError(f"{name!r} is there {number} times")
    return dict(pairs)
