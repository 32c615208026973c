"""Verified generation: every cine is measured, and tried again while what it shows is too far from what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cpgg_hf.errors import RequestError
from cpgg_hf.generation.plan import fingerprints
from cpgg_hf.phenotypes import NAMES, PHENOTYPES, phenotype_index

if TYPE_CHECKING:
    from cpgg_hf.cine import Cine
    from cpgg_hf.segmentation.segmenter import CineSegmenter


class Verification:
    """How cines are measured and when one is good.

    Args:
        segmenter: of the measure.
        max_error: phenotype -> the largest distance, in its unit, of the measured from the requested value. Empty:
            cines are measured and kept whatever they show.
        max_attempts: cines drawn for the same phenotypes; the last one is kept even if it fails.

    Raises:
        RequestError: a phenotype that a four-chamber view does not show, an error below 0, no attempts.
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
                    f"{name} cannot be measured in a four-chamber view; bound the error of one that can, as LVEF."
                )
            if not 0 <= value < np.inf:
                raise RequestError(f"the largest error of {name} is {value:g}; expected a number of at least 0.")
        if max_attempts < 1:
            raise RequestError(f"max_attempts is {max_attempts}; expected at least 1.")

    def describe(self) -> dict[str, Any]:
        """For the plan."""
        return {
            "max_error": self.max_error,
            "max_attempts": self.max_attempts,
            **fingerprints({"segmenter": self.segmenter}),
        }

    def measure(self, cine: Cine) -> np.ndarray:
        """The phenotypes (82,) that a cine shows, NaN where it shows none."""
        from cpgg_hf.measure import measure_cine

        return measure_cine(cine, self.segmenter).phenotypes

    def passes(self, requested: np.ndarray, measured: np.ndarray) -> bool:
        """Whether every bounded phenotype of (82,) was measured, near enough to what was requested."""
        return all(
            bool(abs(measured[index] - requested[index]) <= error)  # NaN is never near
            for index, error in ((phenotype_index(name), error) for name, error in self.max_error.items())
        )

    def summary(self, shards: Sequence[Path]) -> dict[str, Any]:
        """For the data set's description: how many cines pass, and how many were tried for that."""
        import pyarrow.parquet as pq

        columns = ["phenotypes", "measured", "attempt"]
        rows = [row for path in shards for row in pq.read_table(path, columns=columns).to_pylist()]
        passing = sum(self.passes(np.array(row["phenotypes"]), np.array(row["measured"])) for row in rows)
        return {
            "max_error": self.max_error,
            "cines_within_max_error": passing,
            "cines_tried": sum(row["attempt"] for row in rows),
        }
