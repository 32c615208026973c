"""The row format: one row of a cine data set is one cine, with its geometry, provenance and phenotypes.

Frame t is stored as frame t minus frame t - 1, modulo 256, and frame 0 unchanged, which is lossless; Parquet's zstd
(level 1) compresses the result. Measured by `benchmarks/cine_encoding.py`: a generated cine takes 152 kB instead of
273 kB for raw bytes, and one core reads 1,670 per second instead of 1,970. zstd level 9 saves 6% more and writes six
times slower; lz4 reads 1.7 times faster at 1.6 times the size; PNG and lossless WebP are larger and 8 times slower.

Without this package, NumPy decodes a row:
`np.cumsum(np.frombuffer(row["cine"], np.uint8).reshape(row["shape"]), axis=0, dtype=np.uint8)`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cpgg_hf.cine import NUM_PHENOTYPES, Cine
from cpgg_hf.exports.checks import checked

if TYPE_CHECKING:
    import pyarrow

PREVIEW_COLUMN = "preview"
GENERATED_COLUMNS = ("measured", "attempt")
_WEBP_QUALITY = 80  # 2 kB next to a cine of 150 kB (PNG: 10 kB)
# Where `datasets` and dataset viewers find that a column holds images.
_FEATURES = {"info": {"features": {PREVIEW_COLUMN: {"_type": "Image"}}}}


def row_schema() -> pyarrow.Schema:
    """The columns of a row; the metadata marks the preview as an image."""
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


def cine_row(cine: Cine, *, measured: np.ndarray | None = None, attempt: int | None = None) -> dict[str, Any]:
    """One row of a cine data set.

    Args:
        cine: with square pixels; floats are rounded to 255 levels. `subject`, `source`, `view`, `seed` and
            `data_policy` are stored as they are, phenotypes that are None as 82 missing ones.
        measured: (82,) the phenotypes measured in a generated cine, NaN = not measurable.
        attempt: number of cines that were generated for these phenotypes, this one included.

    Raises:
        ValueError: pixels that are not square, or in scanner units, or what `checked` refuses.
    """
    pixels = checked(cine).uint8
    phenotypes = np.full(NUM_PHENOTYPES, np.nan) if cine.phenotypes is None else cine.phenotypes
    return {
        PREVIEW_COLUMN: {"bytes": preview(pixels), "path": None},
        "subject": cine.subject,
        "phenotypes": phenotypes.tolist(),
        "spacing_mm": cine.pixel_size_mm,
        "frame_time_ms": cine.frame_time_ms,
        "view": cine.view,
        "source": cine.source,
        "seed": cine.seed,
        "data_policy": cine.data_policy,
        "measured": None if measured is None else measured.tolist(),
        "attempt": attempt,
        "shape": list(pixels.shape),
        "cine": encode_cine(pixels),
    }


def cine_of(row: Mapping[str, Any]) -> Cine:
    """The cine of a row as plain `datasets` or `load_cines` returns it; cines without a seed count as acquired."""
    return Cine(
        pixels=decode_cine(row),
        acquired=row["seed"] is None,
        origin=f"the cine of {row['subject']}",
        **{name: row[name] for name in ("frame_time_ms", "spacing_mm", "view", "phenotypes", "subject", "source")},
        **{name: row[name] for name in ("seed", "data_policy")},
    )


def decode_cine(row: Mapping[str, Any]) -> np.ndarray:
    """The pixels (T, H, W) uint8 of a row as plain `datasets` or `load_cines` returns it."""
    cine = row["cine"]
    if isinstance(cine, np.ndarray):
        return cine
    differences = np.frombuffer(cine, dtype=np.uint8).reshape(row["shape"])
    return decode_cine_into(np.empty_like(differences), differences)


def encode_cine(pixels: np.ndarray) -> bytes:
    """The stored bytes of pixels (T, H, W) uint8."""
    differences = pixels.copy()
    differences[1:] -= pixels[:-1]
    return differences.tobytes()


def decode_cine_into(pixels: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """Fill `pixels` (T, H, W) uint8 from stored `differences` of the same shape and type."""
    pixels[0] = differences[0]
    for frame in range(1, len(pixels)):
        np.add(pixels[frame - 1], differences[frame], out=pixels[frame])
    return pixels


def end_systole(pixels: np.ndarray) -> int:
    """The frame of pixels (T, H, W), of any type, that differs most from end diastole (frame 0); needs no contours."""
    distance = np.abs(pixels.astype(np.float64) - pixels[:1]).mean(axis=(1, 2))
    return int(distance.argmax())


def preview(pixels: np.ndarray) -> bytes:
    """A WebP file (H, 2 W) of end diastole and end systole side by side, from pixels (T, H, W) uint8."""
    file = io.BytesIO()
    picture = np.concatenate([pixels[0], pixels[end_systole(pixels)]], axis=1)
    Image.fromarray(picture).save(file, format="WEBP", quality=_WEBP_QUALITY)
    return file.getvalue()
