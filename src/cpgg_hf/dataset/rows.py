"""One row of a cine data set: a cine's pixels, its geometry, where it comes from, and its phenotypes.

Rows are what shards hold and what plain `datasets.load_dataset` gives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cpgg_hf.dataset.encoding import decode_cine_into, encode_cine
from cpgg_hf.dataset.preview import preview

if TYPE_CHECKING:
    import pyarrow

NUM_PHENOTYPES = 82
PREVIEW_COLUMN = "preview"
# What generation adds to a row: the phenotypes (82,) that its cine was measured to show, and how often it was drawn.
GENERATED_COLUMNS = ("measured", "attempt")


# Where `datasets` and dataset viewers look for what a column is, beyond its parquet type.
_FEATURES = {"info": {"features": {PREVIEW_COLUMN: {"_type": "Image"}}}}


def row_schema() -> pyarrow.Schema:
    """The columns of a row; the metadata says that the preview is an image."""
    import pyarrow as pa

    return pa.schema(
        [
            (PREVIEW_COLUMN, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("subject", pa.string()),
            ("phenotypes", pa.list_(pa.float64())),
            ("spacing_mm", pa.float64()),
            ("frame_time_ms", pa.float64()),
            ("view", pa.string()),
            ("source", pa.string()),
            ("seed", pa.int64()),
            ("data_policy", pa.string()),
            ("measured", pa.list_(pa.float64())),
            ("attempt", pa.int32()),
            ("shape", pa.list_(pa.int32())),
            ("cine", pa.binary()),
        ],
        metadata={"huggingface": json.dumps(_FEATURES)},
    )


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
        **dict.fromkeys(GENERATED_COLUMNS),
        "shape": list(cine.shape),
        "cine": encode_cine(cine),
    }


def decode_cine(row: Mapping[str, Any]) -> np.ndarray:
    """The cine (T, H, W) uint8 of a row as plain `datasets` reads it; a row of `load_cines` holds it already."""
    cine = row["cine"]
    if isinstance(cine, np.ndarray):
        return cine
    differences = np.frombuffer(cine, dtype=np.uint8).reshape(row["shape"])
    return decode_cine_into(np.empty_like(differences), differences)
