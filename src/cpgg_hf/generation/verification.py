"""Verified generation: each cine is measured, and drawn again if the measured phenotypes miss the request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cpgg_hf.errors import RequestError
from cpgg_hf.generation.plan import fingerprints
from cpgg_hf.measure import measure_cine
from cpgg_hf.phenotypes import NAMES, PHENOTYPES, phenotype_index

if TYPE_CHECKING:
    from cpgg_hf.cine import Cine
    from cpgg_hf.segmentation.segmenter import CineSegmenter


class Verification:
    """How cines are measured, and which are accepted.

    Args:
        segmenter: segments the cines.
        max_error: phenotype -> largest difference between measured and requested value, in its unit; by default every
            cine is accepted.
        max_attempts: cines drawn for the same phenotypes; the last one is kept even if it fails.

    Raises:
        RequestError: a phenotype that a four-chamber view does not show, a negative error, or no attempts.
    """

    def __init__(
        self, segmenter: CineSegmenter, max_error: Mapping[str, float] | None = None, max_attempts: int = 5
    ) -> None:
        self.segmenter = segmenter
        self.max_attempts = max_attempts
        self.max_error = {NAMES[phenotype_index(name)]: float(value) for name, value in (max_error or {}).items()}
        for name, value in self.max_error.items():
            if not PHENOTYPES[phenotype_index(name)].measurable:
                raise RequestError(
                    f"{name} cannot be measured in a four-chamber view; bound the error of one that can, such as LVEF."
                )
            if not 0 <= value < np.inf:
                raise RequestError(f"the largest error of {name} is {value:g}; expected a number of at least 0.")
        if max_attempts < 1:
            raise RequestError(f"max_attempts is {max_attempts}; expected at least 1.")

    def describe(self) -> dict[str, Any]:
        """The verification in a run's plan."""
        segmenter = fingerprints({"segmenter": self.segmenter})
        return {"max_error": self.max_error, "max_attempts": self.max_attempts, **segmenter}

    def measure(self, cine: Cine) -> np.ndarray:
        """The phenotypes (82,) measured on a cine, NaN = not measurable."""
        return measure_cine(cine, self.segmenter).phenotypes

    def passes(self, requested: Any, measured: Any) -> bool:
        """Whether each phenotype in `max_error` deviates by at most its bound; NaN fails. Both are (82,)."""
        errors = ((phenotype_index(name), error) for name, error in self.max_error.items())
        return all(bool(abs(measured[index] - requested[index]) <= error) for index, error in errors)

    def summary(self, records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """The verification in a data set's description: how many cines pass, and how many were drawn.

        Args:
            records: `phenotypes` (82,), `measured` (82,) and `attempt` of each cine.
        """
        passing = tried = 0
        for record in records:
            passing += self.passes(record["phenotypes"], record["measured"])
            tried += record["attempt"]
        return {"max_error": self.max_error, "cines_within_max_error": passing, "cines_tried": tried}
