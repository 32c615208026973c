"""The fidelity report: generated against reference cines in one call, in place of Table 1's FID and FVD."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpgg_hf.metrics.cines import Pixels
from cpgg_hf.metrics.features import FeatureExtractor, extract_features
from cpgg_hf.metrics.frechet import FrechetResult, frechet_with_floor
from cpgg_hf.metrics.image_statistics import image_statistics, share_within_reference_range
from cpgg_hf.metrics.precision_recall import PrecisionRecallResult, precision_recall

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class FidelityReport:
    """The fidelity of one set of generated cines.

    Attributes:
        frechet: distance, floor and their ratio.
        precision_recall: result of generated cines against as many reference cines.
        reference_precision_recall: result of other reference cines against the same ones, the score of perfect cines.
        statistics: one row per image statistic, from `share_within_reference_range`.
    """

    frechet: FrechetResult
    precision_recall: PrecisionRecallResult
    reference_precision_recall: PrecisionRecallResult
    statistics: "pd.DataFrame"


def fidelity_report(
    generated: Sequence[Pixels],
    reference: Sequence[Pixels],
    extractor: FeatureExtractor,
    seed: int = 0,
) -> FidelityReport:
    """Frechet distance, precision and recall, and image statistics of generated against reference cines.

    Args:
        generated: N `Cine` objects or arrays (T, H, W), uint8 or float in [0, 1].
        reference: at least 2 N, on the same grid.
        extractor: such as `RandomFeatureNetwork()`.
        seed: selects the reference cines to compare with and those for the floor.
    """
    generated_features = extract_features(generated, extractor)
    reference_features = extract_features(reference, extractor)
    compared, others = reference_features.split(generated_features.num_cines, seed)
    return FidelityReport(
        frechet=frechet_with_floor(generated_features, reference_features, seed),
        precision_recall=precision_recall(compared, generated_features),
        reference_precision_recall=precision_recall(compared, others),
        statistics=share_within_reference_range(image_statistics(reference), image_statistics(generated)),
    )
