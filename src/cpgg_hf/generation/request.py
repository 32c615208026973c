"""The requested hearts of a run, and how the phenotypes of each are drawn.

Given values are conditioned on; conditions such as LVEF < 40 are met by drawing again (rejection). Each cine has its
own generator, so that its phenotypes are the same in any batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cpgg_hf.dataset import SPLITS
from cpgg_hf.errors import RequestError
from cpgg_hf.generation.conditions import Condition
from cpgg_hf.phenotypes import NAMES, as_array, complete_identities, enforce_identities
from cpgg_hf.phenotypes.units import find_unit_errors
from cpgg_hf.shards import derive_seed

if TYPE_CHECKING:
    from cpgg_hf.pipeline_cpgg import CPGGPipeline

PILOT_DRAWS = 500  # conditions that none of them meets are refused
MAXIMUM_DRAWS = 20_000  # per heart
_DRAWS_AT_ONCE = 16
_PILOT_CINES = 50  # that the pilot's draws are spread over


def sample_seed(seed: int, split: str, index: int, attempt: int = 1) -> int:
    """The seed (0 to 2^63 - 1) of attempt `attempt` (1, 2, ...) at cine `index` of a split, in a run with `seed`."""
    return derive_seed(seed, SPLITS.index(split), index, attempt)


def sample_generator(seed: int, split: str, index: int, attempt: int = 1) -> torch.Generator:
    """The generator of the same, for the pipeline's call."""
    return torch.Generator().manual_seed(sample_seed(seed, split, index, attempt))


class GenerationRequest:
    """The hearts of a run.

    Args:
        phenotypes: anything that `as_array` reads, (R, 82), physical units, NaN = drawn; None = one row, all drawn.
        num_samples: hearts per row, row by row.
        conditions: conditions that all hearts must meet.

    Raises:
        PhenotypeError: a row contradicts itself or has wrong units.
        RequestError: a given value breaks a condition.
    """

    def __init__(self, phenotypes: Any = None, num_samples: int = 1, conditions: Sequence[Condition] = ()) -> None:
        if not isinstance(num_samples, int | np.integer) or num_samples < 1:
            raise RequestError(f"num_samples is {num_samples}; expected a whole number of at least 1 per row.")
        # Row by row, as some checks depend on the other rows of a table, and batches split the table.
        table = np.full((1, len(NAMES)), np.nan) if phenotypes is None else as_array(phenotypes)
        rows = np.concatenate([complete_identities(as_array(row)) for row in table])
        complete = np.isfinite(rows).all(axis=1)
        rows[complete] = enforce_identities(rows[complete])
        for condition in conditions:
            given = rows[:, condition.index]
            broken = np.flatnonzero(np.isfinite(given) & ~condition.holds(rows))
            if len(broken):
                raise RequestError(
                    f"row {broken[0]} fixes {NAMES[condition.index]} at {given[broken[0]]:g}, which breaks the "
                    f"condition {condition}; leave one of them out."
                )
        self.rows, self.num_samples, self.conditions = rows, num_samples, tuple(conditions)

    def __len__(self) -> int:
        return len(self.rows) * self.num_samples

    def describe(self) -> dict[str, Any]:
        """The request in a run's plan: a digest of the rows, and the values that they share."""
        same = np.ptp(self.rows, axis=0) == 0  # never where one is NaN
        rows = np.where(np.isnan(self.rows), np.nan, self.rows)  # NaN has several bit patterns
        return {
            "num_rows": len(self.rows),
            "num_samples": self.num_samples,
            "rows_sha256": hashlib.sha256(rows.tobytes()).hexdigest(),
            "set": {name: float(self.rows[0, index]) for index, name in enumerate(NAMES) if same[index]},
            "where": [str(condition) for condition in self.conditions],
        }

    def draw(self, pipe: CPGGPipeline, seed: int, split: str, indices: Sequence[int]) -> np.ndarray:
        """Complete phenotypes (B, 82) of the cines `indices`.

        The first draw of each is what `pipe(row, generator=<the cine's seed>)` conditions on.

        Raises:
            RequestError: none of `MAXIMUM_DRAWS` draws for one heart meets the conditions.
        """
        result = self.rows[[index // self.num_samples for index in indices]]
        generators = [sample_generator(seed, split, index) for index in indices]
        open_rows = np.flatnonzero(np.isnan(result).any(axis=1))
        given = result.copy()
        num_draws, at_once = 0, 1
        while len(open_rows):
            if num_draws >= MAXIMUM_DRAWS:
                raise RequestError(
                    f"none of {num_draws} draws for cine {indices[open_rows[0]]} meets {self._conditions_text()}; "
                    "loosen the conditions, or request other values."
                )
            num_draws += at_once
            repeated = np.repeat(open_rows, at_once)
            drawn = pipe.sample_phenotypes(given[repeated], None, [generators[row] for row in repeated]).to_numpy()
            accepted = self._accepts(drawn).reshape(len(open_rows), at_once)
            found, first = accepted.any(axis=1), accepted.argmax(axis=1)
            result[open_rows[found]] = drawn.reshape(len(open_rows), at_once, -1)[found, first[found]]
            open_rows, at_once = open_rows[~found], _DRAWS_AT_ONCE
        return result

    def check_acceptance(self, pipe: CPGGPipeline, seed: int, split: str) -> None:
        """Draw `PILOT_DRAWS` hearts spread over the request, if there are conditions or rows that fix some values.

        Raises:
            RequestError: none of them meets the conditions, or none is plausible.
        """
        given = np.isfinite(self.rows)
        if not self.conditions and not (given.any(axis=1) & ~given.all(axis=1)).any():
            return
        indices = np.unique(np.linspace(0, len(self) - 1, _PILOT_CINES).astype(int)).tolist()
        repeats = -(-PILOT_DRAWS // len(indices))
        sources = [sample_generator(seed, split, index) for index in indices]
        generators = [source for source in sources for _ in range(repeats)]
        rows = np.repeat(self.rows[[index // self.num_samples for index in indices]], repeats, axis=0)
        if not self._accepts(pipe.sample_phenotypes(rows, None, generators).to_numpy()).any():
            raise RequestError(
                f"none of {len(rows)} drawn hearts meets {self._conditions_text()}; loosen the conditions, or request "
                "other values."
            )

    def _accepts(self, drawn: np.ndarray) -> np.ndarray:
        accepted = np.array([not any(find_unit_errors(row[None])) for row in drawn])
        for condition in self.conditions:
            accepted &= condition.holds(drawn)
        return accepted

    def _conditions_text(self) -> str:
        return " and ".join(map(str, self.conditions)) or "the phenotypes' plausible ranges"
