"""Data in and out: cine data sets as parquet shards, DICOM and NIfTI series, pictures to look at."""

from cpgg_hf.data.errors import PreparationError

__all__ = ["PreparationError"]
