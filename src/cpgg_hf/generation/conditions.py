"""Conditions on phenotypes as users write them: `LVEF < 40`."""

import operator
import re
from dataclasses import dataclass

import numpy as np

from cpgg_hf.errors import RequestError
from cpgg_hf.phenotypes import NAMES, phenotype_index

_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_CONDITION = re.compile(r"\s*([^<>=\s]+)\s*(<=|>=|<|>)\s*([^<>=\s]+)\s*")


@dataclass(frozen=True)
class Condition:
    """A phenotype compared with a number in the phenotype's unit."""

    index: int
    comparison: str
    bound: float

    def __str__(self) -> str:
        return f"{NAMES[self.index]} {self.comparison} {self.bound:g}"

    def holds(self, phenotypes: np.ndarray) -> np.ndarray:
        """Whether each row of phenotypes (B, 82) meets it, (B,); a missing value does not."""
        return _OPERATORS[self.comparison](phenotypes[:, self.index], self.bound)


def parse_condition(text: str) -> Condition:
    """Parse `LVEF < 40` or `24103>=35`: a name or field, one of < <= > >=, a number.

    Raises:
        RequestError: another form.
        PhenotypeError: the name is unknown.
    """
    match = _CONDITION.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        bound = float(match[3])
    except ValueError:
        raise RequestError(
            f"invalid condition {text!r}; use NAME < NUMBER (or <=, >, >=), such as 'LVEF < 40'."
        ) from None
    return Condition(phenotype_index(match[1]), match[2], bound)
