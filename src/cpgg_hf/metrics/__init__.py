"""Quality of generated cines: fidelity and controllability (the paper's Section 3).

Importing this package loads only numpy; torch, scipy and pandas load with the first metric that needs them.
"""

from cpgg_hf.metrics.controllability import COMBINATIONS, controllability, r2_score
from cpgg_hf.metrics.features import FeatureExtractor, FeatureSet, RandomFeatureNetwork, extract_features
from cpgg_hf.metrics.fidelity import FidelityReport, fidelity_report
from cpgg_hf.metrics.frechet import FrechetResult, frechet_distance, frechet_with_floor, gaussian_frechet_distance
from cpgg_hf.metrics.image_quality import psnr, ssim
from cpgg_hf.metrics.image_statistics import STATISTICS, image_statistics, share_within_reference_range
from cpgg_hf.metrics.plain import to_plain
from cpgg_hf.metrics.precision_recall import PrecisionRecallResult, precision_recall

__all__ = [
    "COMBINATIONS",
    "STATISTICS",
    "FeatureExtractor",
    "FeatureSet",
    "FidelityReport",
    "FrechetResult",
    "PrecisionRecallResult",
    "RandomFeatureNetwork",
    "controllability",
    "extract_features",
    "fidelity_report",
    "frechet_distance",
    "frechet_with_floor",
    "gaussian_frechet_distance",
    "image_statistics",
    "precision_recall",
    "psnr",
    "r2_score",
    "share_within_reference_range",
    "ssim",
    "to_plain",
]
