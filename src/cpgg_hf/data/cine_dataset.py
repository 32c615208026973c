"""Cine data sets as parquet shards that plain `datasets.load_dataset("parquet", ...)` reads, streaming included.

One row is one cine: its raw uint8 bytes (C order; `Array3D` would stream a hundred times slower), its shape, pixel
spacing and frame time, where it comes from, and its 82 phenotypes in physical units (NaN = missing). A folder holds
`<split>-00000-of-000NN.parquet` and, written last, `dataset.json` with the counts.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cpgg_hf.data.errors import PreparationError, brief
from cpgg_hf.data.staging import staged_file

if TYPE_CHECKING:
    import datasets
    import pyarrow

FORMAT_VERSION = 1
SPLITS = ("train", "validation", "test")
DESCRIPTION_FILE = "dataset.json"
NUM_PHENOTYPES = 82
_ROWS_PER_GROUP = 50  # 23 MB: a streaming reader fetches and shuffles in pieces of this size


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("cine", pa.binary()),
            ("shape", pa.list_(pa.int32())),
            ("spacing_mm", pa.float64()),
            ("frame_time_ms", pa.float64()),
            ("view", pa.string()),
            ("source", pa.string()),
            ("subject", pa.string()),
            ("seed", pa.int64()),
            ("phenotypes", pa.list_(pa.float64())),
            ("data_policy", pa.string()),
        ]
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
    if cine.ndim != 3:
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
        "cine": np.ascontiguousarray(cine).tobytes(),
        "shape": list(cine.shape),
        "spacing_mm": float(spacing_mm),
        "frame_time_ms": float(frame_time_ms),
        "view": view,
        "source": source,
        "subject": subject,
        "seed": None if seed is None else int(seed),
        "phenotypes": values.tolist(),
        "data_policy": data_policy,
    }


def decode_cine(row: Mapping[str, Any]) -> np.ndarray:
    """The cine of a row as a read-only uint8 array (T, H, W) over the row's own bytes."""
    return np.frombuffer(row["cine"], dtype=np.uint8).reshape(tuple(row["shape"]))


def shard_path(folder: str | os.PathLike[str], split: str, index: int, num_shards: int) -> Path:
    """`<folder>/<split>-00000-of-000NN.parquet`."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}.")
    return Path(folder) / f"{split}-{index:05d}-of-{num_shards:05d}.parquet"


def write_shard(rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str], plan: str = "") -> int:
    """Write rows from `cine_row` as one parquet file that appears whole or not at all.

    `plan` says what the shard was made from; `read_plan` gives it back, so that a resumed run knows its own shards.
    Returns the number of rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema().with_metadata({"cpgg_plan": plan})
    # Dictionaries and statistics of whole cines would only cost time and space.
    settings = {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": ["view", "source", "data_policy"],
        "write_statistics": [name for name in schema.names if name != "cine"],
    }
    num_rows = 0
    with staged_file(path) as partial, pq.ParquetWriter(partial, schema, **settings) as writer:
        for group in _grouped(rows, _ROWS_PER_GROUP):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            num_rows += len(group)
    return num_rows


def _grouped(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    remaining = iter(rows)
    while group := list(islice(remaining, size)):
        yield group


def read_plan(path: str | os.PathLike[str]) -> str:
    """What `write_shard` was told the shard is made from."""
    return (_read_schema(path).metadata or {}).get(b"cpgg_plan", b"").decode()


def _read_schema(path: str | os.PathLike[str]) -> pyarrow.Schema:
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (OSError, ValueError) as error:
        raise PreparationError(
            f"{path} is not a readable parquet shard ({brief(error)}); delete it and run `cpgg prepare` again."
        ) from None
    missing = set(_schema().names) - set(schema.names)
    if missing:
        raise PreparationError(
            f"{path} is no shard of cines: it has no column {min(missing)!r}; give a folder that `cpgg prepare` wrote."
        )
    return schema


class CineWriter:
    """Write the cines of one split as shards, in the order they are added; nothing is left behind on an error.

    The number of shards is part of their names and known at the end only, so shards wait under hidden names until
    the `with` block ends well.

    Args:
        folder: the data set's folder; created when absent.
        split: "train", "validation" or "test"; must not exist in the folder yet.
        shard_size: cines a shard.
    """

    def __init__(self, folder: str | os.PathLike[str], split: str, shard_size: int = 250) -> None:
        self.folder = Path(folder)
        self.split = split
        self.shard_size = shard_size
        shard_path(self.folder, split, 0, 1)
        if shard_size < 1:
            raise ValueError(f"shard_size must be at least 1, given {shard_size}.")
        existing = sorted(self.folder.glob(f"{split}-*.parquet"))
        if existing:
            raise PreparationError(f"{existing[0]} exists already; choose another folder, or delete the split first.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._rows: list[dict[str, Any]] = []
        self._waiting: list[Path] = []

    def add(self, cine: np.ndarray, **description: Any) -> None:
        """Add one cine; the arguments are those of `cine_row`."""
        self._rows.append(cine_row(cine, **description))
        if len(self._rows) == self.shard_size:
            self._flush()

    def _flush(self) -> None:
        path = self.folder / f".{self.split}-{len(self._waiting):05d}.waiting"
        write_shard(self._rows, path)
        self._waiting.append(path)
        self._rows = []

    def __enter__(self) -> CineWriter:
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        try:
            if exception_type is None:
                if self._rows:
                    self._flush()
                for index, path in enumerate(self._waiting):
                    path.replace(shard_path(self.folder, self.split, index, len(self._waiting)))
        finally:
            for path in self._waiting:
                path.unlink(missing_ok=True)


def find_shards(folder: str | os.PathLike[str], split: str) -> list[Path]:
    """The shards of a split in order; empty where the split does not exist.

    Raises:
        PreparationError: shards are missing, or come from two different splits of the data.
    """
    paths = sorted(Path(folder).glob(f"{split}-*-of-*.parquet"))
    if not paths:
        return []
    counts = {int(re.sub(r".*-of-(\d+)\.parquet$", r"\1", path.name)) for path in paths}
    expected = [shard_path(folder, split, index, max(counts)) for index in range(max(counts))]
    if paths != expected:
        raise PreparationError(
            f"{folder} holds {len(paths)} shards of the split {split!r} where {max(counts)} are expected; "
            "run the preparation again until it ends."
        )
    return paths


def write_description(folder: str | os.PathLike[str], **details: Any) -> dict[str, Any]:
    """Write `dataset.json`: format version, cines and shards of each split, and the given details."""
    import pyarrow.parquet as pq

    splits = {}
    for split in SPLITS:
        paths = find_shards(folder, split)
        if paths:
            num_cines = sum(pq.read_metadata(path).num_rows for path in paths)
            splits[split] = {"num_cines": num_cines, "num_shards": len(paths)}
    description = {"format_version": FORMAT_VERSION, "splits": splits, **details}
    with staged_file(Path(folder) / DESCRIPTION_FILE) as partial:
        partial.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return description


def read_description(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a data set's `dataset.json`.

    Raises:
        PreparationError: no such file, or one of another format.
    """
    path = Path(folder) / DESCRIPTION_FILE
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        version, _ = description["format_version"], description["splits"]
    except FileNotFoundError:
        raise PreparationError(
            f"{folder} has no {DESCRIPTION_FILE}: it is no cine data set, or its preparation has not ended yet; "
            "write one with `cpgg prepare`."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise PreparationError(f"{path} cannot be read ({brief(error)}); prepare the data set again.") from None
    if version != FORMAT_VERSION:
        raise PreparationError(f"{path} has format version {version}, this package reads version {FORMAT_VERSION}.")
    return description


def load_cines(
    path: str | os.PathLike[str], split: str = "train", cache_dir: str | os.PathLike[str] | None = None
) -> datasets.Dataset:
    """One split of a cine data set as a map-style `datasets.Dataset`, memory-mapped from an arrow cache.

    Args:
        path: a folder written by `cpgg prepare` or `CineWriter`.
        split: "train", "validation" or "test".
        cache_dir: where `datasets` keeps its arrow files; by default `HF_DATASETS_CACHE`.

    Raises:
        PreparationError: no data set there, no such split, or shards that are missing, damaged or of other data.
    """
    description = read_description(path)
    paths = find_shards(path, split)
    if not paths:
        raise PreparationError(f"{path} has no split {split!r}; it has {', '.join(description['splits']) or 'none'}.")
    for shard in paths:
        _read_schema(shard)

    import datasets

    return datasets.load_dataset(
        "parquet",
        data_files={split: [str(shard) for shard in paths]},
        split=split,
        cache_dir=None if cache_dir is None else str(cache_dir),
    )
