"""From files to a data set: read, check the view, resample over the cycle, crop around the heart, normalise."""

from cpgg_hf.data.errors import PreparationError

__all__ = ["PreparationError"]
