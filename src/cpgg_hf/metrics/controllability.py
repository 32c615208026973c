"""Controllability: does a generated heart have the requested phenotypes?

R2 = 1 - SSE / SST of measured against requested values without a fit, so an offset or a wrong slope lowers it.
Phenotypes that a four-chamber view shows are listed before those it does not.
"""

from typing import TYPE_CHECKING

import numpy as np

from cpgg_hf.phenotypes import LATERAL_SEGMENTS, NAMES, PHENOTYPES, SEPTAL_SEGMENTS, phenotype_index
from cpgg_hf.phenotypes.tables import parse_table

if TYPE_CHECKING:
    import pandas as pd

# Means of phenotypes of one unit.
COMBINATIONS = {
    "septal_wall": tuple(f"WT_AHA_{segment}" for segment in SEPTAL_SEGMENTS),
    "lateral_wall": tuple(f"WT_AHA_{segment}" for segment in LATERAL_SEGMENTS),
}
MIN_CINES = 20  # of fewer, R2 is dominated by chance: four cines gave -38
_FIGURES = ("r2", "r2_low", "r2_high", "rmse", "pearson_r", "slope", "bias", "shuffled_r2")


def r2_score(requested: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """1 - SSE / SST along the last axis; SSE: measured - requested; SST: requested about its mean (NaN if 0)."""
    sse = np.sum((measured - requested) ** 2, axis=-1)
    sst = np.sum((requested - requested.mean(axis=-1, keepdims=True)) ** 2, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sst > 0, 1.0 - sse / sst, np.nan)


def controllability(
    requested: object, measured: object, seed: int = 0, num_resamples: int = 1000, min_cines: int = MIN_CINES
) -> "pd.DataFrame":
    """Measured against requested phenotypes, one row per phenotype and per combination in `COMBINATIONS`.

    A combination is evaluated by the mean of its phenotypes, NaN if one of them is.

    Args:
        requested: (N, 82) in physical units, or any table of phenotypes; the condition of each cine.
        measured: (N, 82), the same cines in the same order; NaN where a phenotype could not be measured.
        seed: seed of the bootstrap and of the shuffling.
        num_resamples: bootstrap resamples of cines for the interval, and shuffles for the floor.
        min_cines: fewest cines (at least 3) that give an R2.

    Returns:
        DataFrame indexed by `phenotype`, the measurable ones first, with the columns `unit`; `measurable`
        (from a four-chamber view, by the schema); `num_cines` with both values, which all figures use, and
        `num_unmeasured` with a requested but no measured value; `r2`, its bootstrap 95% interval `r2_low`, `r2_high`;
        `rmse` and `bias` (mean measured - requested) in units; `pearson_r` and `slope` (of measured on requested);
        `shuffled_r2`, the mean R2 against other cines' requests (-1 for perfect measurements of unrelated hearts).
        `rmse` and `bias` need one cine. The others are NaN with fewer than `min_cines` cines or a constant request;
        `r2_needs` then says what they need ("20 cines", "varied requests").

    Raises:
        ValueError: if the tables differ in length.
    """
    import pandas as pd

    # Not `as_array`, which refuses implausible values: a measurement may have some.
    requested, measured = parse_table(requested), parse_table(measured)
    if requested.shape != measured.shape:
        raise ValueError(
            f"{len(requested)} requested rows but {len(measured)} measured ones; give one of each per cine."
        )
    groups = {name: (name,) for name in NAMES} | COMBINATIONS
    rows = {}
    for number, (name, members) in enumerate(groups.items()):
        columns = [phenotype_index(member) for member in members]
        parts = [PHENOTYPES[column] for column in columns]
        rows[name] = {
            "unit": parts[0].unit,
            "measurable": all(part.measurable for part in parts),
            **_figures(
                requested[:, columns].mean(axis=1),
                measured[:, columns].mean(axis=1),
                np.random.default_rng([seed, number]),
                num_resamples,
                min_cines,
            ),
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("phenotype")
    return table.sort_values("measurable", ascending=False, kind="stable")


def _figures(
    x: np.ndarray, y: np.ndarray, generator: np.random.Generator, num_resamples: int, min_cines: int
) -> dict[str, float | str]:
    requested = ~np.isnan(x)
    both = requested & ~np.isnan(y)
    figures: dict[str, float | str] = {
        "num_cines": int(both.sum()),
        "num_unmeasured": int(requested.sum() - both.sum()),
        **dict.fromkeys(_FIGURES, float("nan")),
    }
    x, y = x[both], y[both]
    if len(x):
        figures |= {"rmse": float(np.sqrt(np.mean((y - x) ** 2))), "bias": float(np.mean(y - x))}
    needs = f"{min_cines} cines" if len(x) < min_cines else "varied requests" if np.ptp(x) == 0 else ""
    if needs:
        return figures | {"r2_needs": needs}
    resamples = generator.integers(len(x), size=(num_resamples, len(x)))
    low, high = np.nanpercentile(r2_score(x[resamples], y[resamples]), [2.5, 97.5])
    shuffles = generator.permuted(np.tile(np.arange(len(x)), (num_resamples, 1)), axis=1)
    covariance = np.cov(x, y)
    with np.errstate(divide="ignore", invalid="ignore"):
        pearson_r = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    return figures | {
        "r2": float(r2_score(x, y)),
        "r2_low": float(low),
        "r2_high": float(high),
        "pearson_r": float(pearson_r),
        "slope": float(covariance[0, 1] / covariance[0, 0]),
        "shuffled_r2": float(r2_score(x[shuffles], y).mean()),
        "r2_needs": "",
    }
