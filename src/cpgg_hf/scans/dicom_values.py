"""Values of a DICOM data set that may be damaged."""

from collections.abc import Iterable
from typing import Any

import numpy as np


def value_of(dataset: Any, name: str) -> Any:
    """The value of a tag, or None if it is absent or damaged: pydicom converts values only on access."""
    try:
        return dataset.get(name)
    except Exception:  # damaged values raise many kinds
        return None


def numbers_of(dataset: Any, name: str, count: int) -> np.ndarray | None:
    """The numbers of a tag as (count,) float64, or None if they are absent or not numbers."""
    try:
        numbers = np.atleast_1d(np.asarray(value_of(dataset, name), dtype=np.float64))
    except (TypeError, ValueError, ArithmeticError):
        return None
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None


def number_of(dataset: Any, name: str) -> float | None:
    """The number of a tag, or None if it is absent or not one number."""
    numbers = numbers_of(dataset, name, 1)
    return None if numbers is None else float(numbers[0])


def texts_of(dataset: Any, name: str) -> list[str]:
    """The values of a tag as texts in capitals; empty if it is absent."""
    value = value_of(dataset, name)
    values = [] if value is None else [value] if isinstance(value, str) else value
    return [str(one).upper() for one in values] if isinstance(values, Iterable) else []
