"""Sampled against reference phenotypes: Kolmogorov-Smirnov distance per phenotype, and correlations in pairs."""

from dataclasses import dataclass

import numpy as np

from cpgg_hf.metrics.records import Record


@dataclass(frozen=True)
class DistributionResult(Record):
    """Two phenotype samples compared.

    Attributes:
        ks_distance: Kolmogorov-Smirnov distance in [0, 1] by short name; NaN where a sample has no value.
        max_ks_distance: the largest of them.
        mean_correlation_difference: mean |difference| over the pairs whose correlation exists in both samples.
        max_correlation_difference: the largest of them.
        num_pairs: how many pairs those are (a constant phenotype has no correlation).
        num_reference, num_generated: rows.
    """

    ks_distance: dict[str, float]
    max_ks_distance: float
    mean_correlation_difference: float
    max_correlation_difference: float
    num_pairs: int
    num_reference: int
    num_generated: int


def compare_distributions(reference: object, generated: object) -> DistributionResult:
    """Compare two phenotype tables (anything `phenotypes.as_array` takes), at least 3 rows each; NaN = missing."""
    from scipy.stats import ks_2samp

    from cpgg_hf.phenotypes import NAMES
    from cpgg_hf.phenotypes.tables import parse_table

    # Not `as_array`, which refuses implausible values: a sample may have some.
    a, b = parse_table(reference), parse_table(generated)
    if min(len(a), len(b)) < 3:
        raise ValueError(f"{len(a)} reference and {len(b)} generated rows; give at least 3 of each.")
    distances = {}
    for index, name in enumerate(NAMES):
        x, y = a[:, index], b[:, index]
        x, y = x[~np.isnan(x)], y[~np.isnan(y)]
        distances[name] = float(ks_2samp(x, y).statistic) if len(x) and len(y) else float("nan")
    difference = np.abs(correlations(a) - correlations(b))[np.triu_indices(len(NAMES), k=1)]
    difference = difference[~np.isnan(difference)]
    return DistributionResult(
        ks_distance=distances,
        max_ks_distance=float(np.nanmax(list(distances.values()))),
        mean_correlation_difference=float(difference.mean()) if len(difference) else float("nan"),
        max_correlation_difference=float(difference.max()) if len(difference) else float("nan"),
        num_pairs=len(difference),
        num_reference=len(a),
        num_generated=len(b),
    )


def correlations(phenotypes: np.ndarray) -> np.ndarray:
    """Pearson correlations (82, 82) of (N, 82); a pair uses the rows that have both; NaN where one is constant."""
    import pandas as pd

    return pd.DataFrame(phenotypes).corr(min_periods=3).to_numpy()
