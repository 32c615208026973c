"""Measurement: phenotypes of a segmented cine, by the stated formulas."""

from cpgg_hf.measure.cines import measure_cine, measure_cines
from cpgg_hf.measure.formulas import CineMeasurement, measure_labels

__all__ = ["CineMeasurement", "measure_cine", "measure_cines", "measure_labels"]
