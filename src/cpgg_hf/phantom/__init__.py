"""The phantom: an analytic four-chamber heart computed from 82 phenotypes, imaged as bSSFP cine."""

from cpgg_hf.phantom.population import POPULATION_VERSION, disease_labels, sample_phenotypes
from cpgg_hf.phantom.rendering import LABELS, RENDERER_VERSION, PhantomHeart, render
from cpgg_hf.phantom.scanner import SCANNER_1_5T, SCANNER_3T, Scanner

__all__ = [
    "LABELS",
    "POPULATION_VERSION",
    "RENDERER_VERSION",
    "SCANNER_1_5T",
    "SCANNER_3T",
    "PhantomHeart",
    "Scanner",
    "disease_labels",
    "render",
    "sample_phenotypes",
]
