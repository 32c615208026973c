"""Adherence: does a generated heart have the phenotypes that were asked for?

R2 = 1 - SSE / SST of measured against requested, with nothing refitted: an offset or a wrong slope costs. Phenotypes
that a four-chamber view shows stand apart from those it does not (DESIGN section 2).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

# Segments in the four-chamber plane: inferoseptal and apical septal, anterolateral and apical lateral.
COMBINATIONS: Mapping[str, tuple[str, ...]] = {
    "septal_wall": ("WT_AHA_3", "WT_AHA_9", "WT_AHA_14"),
    "lateral_wall": ("WT_AHA_6", "WT_AHA_12", "WT_AHA_16"),
}
COLUMNS = (
    "unit",
    "measurable",
    "num_cines",
    "num_unmeasured",
    "r2",
    "r2_low",
    "r2_high",
    "rmse",
    "pearson_r",
    "slope",
    "bias",
    "shuffled_r2",
)


def r2_score(requested: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """1 - SSE / SST along the last axis; SSE: measured - requested; SST: requested about its mean (NaN if 0)."""
    sse = np.sum((measured - requested) ** 2, axis=-1)
    sst = np.sum((requested - requested.mean(axis=-1, keepdims=True)) ** 2, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sst > 0, 1.0 - sse / sst, np.nan)


def adherence(
    requested: object,
    measured: object,
    seed: int = 0,
    num_resamples: int = 1000,
    combinations: Mapping[str, tuple[str, ...]] = COMBINATIONS,
) -> "pd.DataFrame":
    """Measured against requested phenotypes, one row per phenotype and per combination.

    Args:
        requested: (N, 82) in physical units, or any table of phenotypes; what the cines were conditioned on.
        measured: (N, 82), the same cines in the same order; NaN where a phenotype could not be measured.
        seed: of the bootstrap and of the shuffling.
        num_resamples: bootstrap resamples of cines for the interval, and shuffles for the floor.
        combinations: name -> phenotypes of one unit, whose mean is judged as one quantity (NaN if one is NaN).

    Returns:
        DataFrame indexed by `phenotype`, the measurable ones first, with the columns `COLUMNS`: `unit`; `measurable`
        (from a four-chamber view, by the schema); `num_cines` with both values, on which all figures stand, and
        `num_unmeasured` that were requested but gave none; `r2`, its bootstrap 95% interval `r2_low`, `r2_high`;
        `rmse` and `bias` (mean measured - requested) in units; `pearson_r` and `slope` (of measured on requested);
        `shuffled_r2`, the mean R2 against other cines' requests (-1 for perfect measurements of unrelated hearts).
        Figures are NaN with fewer than 3 cines or a constant request.

    Raises:
        ValueError: if the tables differ in length, or a combination mixes units.
    """
    import pandas as pd

    from cpgg_hf.phenotypes import PHENOTYPES, phenotype_index
    from cpgg_hf.phenotypes.tables import parse_table

    # Not `as_array`: an impossible measurement is to be judged, not refused.
    requested, measured = parse_table(requested), parse_table(measured)
    if requested.shape != measured.shape:
        raise ValueError(f"{len(requested)} requested rows but {len(measured)} measured ones; expected one per cine")
    groups: dict[str, tuple[int, ...]] = {phenotype.short_name: (index,) for index, phenotype in enumerate(PHENOTYPES)}
    groups.update({name: tuple(phenotype_index(part) for part in parts) for name, parts in combinations.items()})
    rows = {}
    for number, (name, indices) in enumerate(groups.items()):
        parts = [PHENOTYPES[index] for index in indices]
        units = {part.unit for part in parts}
        if len(units) > 1:
            raise ValueError(f"combination {name!r} mixes the units {sorted(units)}; expected one unit")
        columns = list(indices)
        rows[name] = {
            "unit": parts[0].unit,
            "measurable": all(part.measurable for part in parts),
            **_figures(
                requested[:, columns].mean(axis=1),
                measured[:, columns].mean(axis=1),
                np.random.default_rng([seed, number]),
                num_resamples,
            ),
        }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS)).rename_axis("phenotype")
    return table.sort_values("measurable", ascending=False, kind="stable")


def _figures(x: np.ndarray, y: np.ndarray, generator: np.random.Generator, num_resamples: int) -> dict[str, float]:
    requested = ~np.isnan(x)
    both = requested & ~np.isnan(y)
    counts = {"num_cines": int(both.sum()), "num_unmeasured": int(requested.sum() - both.sum())}
    x, y = x[both], y[both]
    if len(x) < 3 or np.ptp(x) == 0:
        return counts | dict.fromkeys(COLUMNS[COLUMNS.index("r2") :], float("nan"))
    resamples = generator.integers(len(x), size=(num_resamples, len(x)))
    low, high = np.nanpercentile(r2_score(x[resamples], y[resamples]), [2.5, 97.5])
    shuffles = generator.permuted(np.tile(np.arange(len(x)), (num_resamples, 1)), axis=1)
    covariance = np.cov(x, y)
    with np.errstate(divide="ignore", invalid="ignore"):
        pearson_r = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    return counts | {
        "r2": float(r2_score(x, y)),
        "r2_low": float(low),
        "r2_high": float(high),
        "rmse": float(np.sqrt(np.mean((y - x) ** 2))),
        "pearson_r": float(pearson_r),
        "slope": float(covariance[0, 1] / covariance[0, 0]),
        "bias": float(np.mean(y - x)),
        "shuffled_r2": float(r2_score(x[shuffles], y).mean()),
    }
