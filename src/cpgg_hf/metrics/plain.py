"""Results as JSON."""

import dataclasses
import math
from typing import Any

import numpy as np


def to_plain(value: Any) -> Any:
    """Dataclass, DataFrame, array or scalar -> plain JSON types; a number that is not finite becomes None.

    A DataFrame becomes a list of rows, its index first (as `index`, or under the index's own name).
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [to_plain(item) for item in value]
    if hasattr(value, "to_dict") and hasattr(value, "reset_index"):
        return to_plain(value.reset_index().to_dict(orient="records"))
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
