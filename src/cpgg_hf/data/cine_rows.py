"""One row of a cine data set: a cine's pixels, its geometry, where it comes from, and its phenotypes.

Rows are what shards hold and what plain `datasets.load_dataset` gives. The preview is declared a `datasets.Image` in
the parquet metadata, so that dataset viewers show it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cpgg_hf.data.cine_encoding import decode_cines, encode_cine
from cpgg_hf.data.cine_preview import preview

if TYPE_CHECKING:
    import pyarrow

NUM_PHENOTYPES = 82
PREVIEW_COLUMN = "preview"


@lru_cache(maxsize=1)
def row_schema() -> pyarrow.Schema:
    """The columns of a row, with the types that `datasets` gives them as metadata."""
    from datasets import Features, Image, List, Value

    features = Features(
        {
            PREVIEW_COLUMN: Image(),
            "subject": Value("string"),
            "phenotypes": List(Value("float64")),
            "spacing_mm": Value("float64"),
            "frame_time_ms": Value("float64"),
            "view": Value("string"),
            "source": Value("string"),
            "seed": Value("int64"),
            "data_policy": Value("string"),
            "shape": List(Value("int32")),
            "cine": Value("binary"),
        }
    )
    return features.arrow_schema


def cine_row(
    cine: np.ndarray,
    *,
    spacing_mm: float,
    frame_time_ms: float,
    subject: str,
    source: str,
    data_policy: str,
    view: str = "4ch",
    seed: int | None = None,
    phenotypes: np.ndarray | None = None,
) -> dict[str, Any]:
    """One row of a cine data set.

    Args:
        cine: (T, H, W), uint8, or float in [0, 1] (rounded to 255 levels).
        spacing_mm: pixel size in mm, the same along rows and columns.
        frame_time_ms: time from one frame to the next in ms.
        subject: the subject's name within the data set; never a hospital's or a biobank's identifier.
        source: where the cine comes from: "phantom", "dicom", "nifti", ...
        data_policy: "phantom", "public", or "restricted" for what must not be published.
        view: the view as judged, e.g. "4ch".
        seed: what a synthetic cine was drawn from.
        phenotypes: (82,) in physical units, NaN = missing; None = all missing.

    Raises:
        ValueError: a wrong shape, a float cine outside [0, 1], a spacing or frame time that is not positive.
    """
    cine = np.asarray(cine)
    if cine.ndim != 3 or 0 in cine.shape:
        raise ValueError(f"a cine has three axes (T, H, W), given {cine.shape}; pass one cine at a time.")
    if cine.dtype != np.uint8:
        if not (np.isfinite(cine).all() and cine.min() >= 0 and cine.max() <= 1):
            raise ValueError(
                f"a {cine.dtype} cine must lie in [0, 1], given {cine.min()} to {cine.max()}; scale it, or pass uint8."
            )
        cine = np.round(cine * 255).astype(np.uint8)
    for name, value in (("spacing_mm", spacing_mm), ("frame_time_ms", frame_time_ms)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, given {value}.")
    values = np.full(NUM_PHENOTYPES, np.nan) if phenotypes is None else np.asarray(phenotypes, dtype=np.float64)
    if values.shape != (NUM_PHENOTYPES,):
        raise ValueError(f"phenotypes must have shape ({NUM_PHENOTYPES},), given {values.shape}.")
    return {
        PREVIEW_COLUMN: {"bytes": preview(cine), "path": None},
        "subject": subject,
        "phenotypes": values.tolist(),
        "spacing_mm": float(spacing_mm),
        "frame_time_ms": float(frame_time_ms),
        "view": view,
        "source": source,
        "seed": None if seed is None else int(seed),
        "data_policy": data_policy,
        "shape": list(cine.shape),
        "cine": encode_cine(cine),
    }


def decode_cine(row: Mapping[str, Any]) -> np.ndarray:
    """The cine (T, H, W) uint8 of a row as plain `datasets` reads it; a row of `load_cines` holds it already."""
    cine = row["cine"]
    if isinstance(cine, np.ndarray):
        return cine
    return decode_cines(np.frombuffer(cine, dtype=np.uint8).reshape(1, *row["shape"]))[0]
