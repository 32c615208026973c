"""Fields of a stage's arguments, with all that the loop must know about them, and the checks of their values."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import MISSING, Field, field
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from cpgg_hf.errors import TrainingError, brief

_TYPES = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text (in quotes if it looks like a number)",
    list: "a list", dict: "`key: value` lines",
}  # fmt: skip
_RANGES = {"minimum": "at least", "above": "above", "maximum": "at most"}


def argument(default: Any = MISSING, help: str = "", **metadata: Any) -> Any:
    """A field of a stage's arguments.

    Args:
        default: MISSING for a required argument.
        help: text of `--help`.
        metadata: what the loop must know.
            `source`: where the network's data policy comes from. "model" or "dataset": a folder or Hub repository that
            states its own; "phantoms": a folder of phantoms that the stage renders itself; "none": the text does not
            name anything that the network learns from. Free text without a `source` makes the network restricted.
            `public`: values of a "model" source that are names of public weights.
            `operational`: True if a resumed run may change it: where things lie (their content is compared by
            fingerprint), how long and how often, how a global batch is cut and computed.
            `minimum`, `maximum`, `above`: range of a number, or of each number in a list.
    """
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help, **metadata})
    return field(default=default, metadata={"help": help, **metadata})


def check_keys(given: Iterable[str], valid: Iterable[str], where: str) -> None:
    """Raises `TrainingError` naming the first key of `given` that is not in `valid`, and the nearest that is."""
    valid = sorted(valid)
    for key in map(str, given):
        if key not in valid:
            nearest = [f"; the nearest is {name!r}" for name in difflib.get_close_matches(key, valid, n=1, cutoff=0.0)]
            raise TrainingError(f"{where} has no key {key!r}{''.join(nearest)} (all: {', '.join(valid) or 'none'}).")


def is_operational(entry: Field) -> bool:
    """Whether a resumed run may change this argument."""
    return bool(entry.metadata.get("operational"))


def is_required(entry: Field) -> bool:
    """Whether an argument has no default."""
    return entry.default is MISSING and entry.default_factory is MISSING


def default_of(entry: Field) -> Any:
    """The default of an argument that has one."""
    return entry.default_factory() if callable(entry.default_factory) else entry.default


def without_none(kind: Any) -> Any:
    """`str | None` -> `str`."""
    return next(part for part in get_args(kind) if part is not NoneType) if NoneType in get_args(kind) else kind


def is_free_text(kind: Any) -> bool:
    """Whether values of a type are text without a fixed list of choices, and so may name a folder or repository."""
    kind = without_none(kind)
    return get_origin(kind) is not Literal and any(part in (str, Any, Path) for part in (kind, *get_args(kind)))


def checked(name: str, kind: Any, value: Any) -> Any:
    """A value of the type that was declared: whole numbers serve as fractions, and YAML's False as "no".

    Raises:
        TrainingError: it has another type.
    """
    if value is None and NoneType in get_args(kind):
        return None
    kind = without_none(kind)
    outer, inner = get_origin(kind), get_args(kind)
    if outer is Literal:
        value = "no" if value is False and "no" in inner else value
        if value not in inner:
            raise TrainingError(f"{name} is {value!r}; expected one of {', '.join(inner)}.")
        return value
    if outer is list and isinstance(value, list | tuple):
        return [checked(name, inner[0], part) for part in value]
    if outer is dict and isinstance(value, dict):
        return {str(key): part if inner[1] is Any else checked(name, inner[1], part) for key, part in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if value == "":
        raise TrainingError(f"{name} is empty; give a value or leave it out.")
    if type(value) is not (outer or kind):
        expected = _TYPES[outer or kind]
        raise TrainingError(f"{name} is {brief(repr(value))}; expected {expected}.")
    return value


def check_range(entry: Field, value: Any) -> None:
    """Raises `TrainingError` if a number, or one of a list, is not finite or outside the range that is declared."""
    limits = entry.metadata
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, float | int) and not (
            math.isfinite(number)
            and limits.get("minimum", -math.inf) <= number <= limits.get("maximum", math.inf)
            and limits.get("above", -math.inf) < number
        ):
            words = [f"{word} {limits[name]}" for name, word in _RANGES.items() if name in limits]
            raise TrainingError(f"{entry.name} must be {' and '.join(words) or 'finite'}, given {number}.")
