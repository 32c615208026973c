"""The fidelity report: generated against true cines in one call, where the paper's Table 1 has FID and FVD."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cpgg_hf.metrics.features import FeatureExtractor, extract_features
from cpgg_hf.metrics.frechet import FrechetResult, frechet_with_floor
from cpgg_hf.metrics.image_statistics import image_statistics, share_within_true_range
from cpgg_hf.metrics.precision_recall import PrecisionRecallResult, precision_recall
from cpgg_hf.metrics.records import Record

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class FidelityReport(Record):
    """Everything measured of one set of generated cines.

    Attributes:
        frechet: distance, floor and their ratio.
        precision_recall: of generated cines against as many true ones.
        true_precision_recall: of other true cines against the same true ones: what perfect cines would score.
        statistics: one row per image statistic, from `share_within_true_range`.
    """

    frechet: FrechetResult
    precision_recall: PrecisionRecallResult
    true_precision_recall: PrecisionRecallResult
    statistics: "pd.DataFrame"


def fidelity_report(
    generated: Sequence[np.ndarray],
    true: Sequence[np.ndarray],
    extractor: FeatureExtractor,
    seed: int = 0,
    num_neighbours: int = 5,
    spatial_stride: int = 16,
    temporal_stride: int = 10,
) -> FidelityReport:
    """Frechet distance, precision and recall, and image statistics of generated against true cines.

    Args:
        generated: N cines (T, H, W), uint8 or float in [0, 1], as an array or a list (they are gone through twice).
        true: at least 2 N, on the same grid.
        extractor: such as `RandomFeatureNetwork()`.
        seed: which true cines are compared with and which make the floor.
        num_neighbours: k of precision and recall.
        spatial_stride: pixels from one token face to the next.
        temporal_stride: frames from one token face to the next.
    """
    generated_features, true_features = extract_features(generated, extractor), extract_features(true, extractor)
    frechet = frechet_with_floor(generated_features, true_features, seed)
    reference, others = true_features.split(generated_features.num_cines, seed)
    return FidelityReport(
        frechet=frechet,
        precision_recall=precision_recall(reference, generated_features, num_neighbours),
        true_precision_recall=precision_recall(reference, others, num_neighbours),
        statistics=share_within_true_range(
            image_statistics(true, spatial_stride, temporal_stride),
            image_statistics(generated, spatial_stride, temporal_stride),
        ),
    )
