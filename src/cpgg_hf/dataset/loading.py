"""`load_cines`: a split of a cine data set as plain `datasets` objects whose rows hold the cine itself."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from cpgg_hf.dataset.rows import PREVIEW_COLUMN, decode_cine, row_schema
from cpgg_hf.dataset.source import open_source
from cpgg_hf.errors import InputError

if TYPE_CHECKING:
    import datasets

_ROWS_AT_ONCE = 16


@overload
def load_cines(
    path_or_repo: str | os.PathLike[str],
    split: str = ...,
    streaming: Literal[False] = ...,
    *,
    revision: str | None = ...,
    cache_dir: str | os.PathLike[str] | None = ...,
) -> datasets.Dataset: ...


@overload
def load_cines(
    path_or_repo: str | os.PathLike[str],
    split: str = ...,
    *,
    streaming: Literal[True],
    revision: str | None = ...,
) -> datasets.IterableDataset: ...


def load_cines(
    path_or_repo: str | os.PathLike[str],
    split: str = "train",
    streaming: bool = False,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> datasets.Dataset | datasets.IterableDataset:
    """One split of a cine data set: rows with `cine` (T, H, W) uint8, `phenotypes` (82,) and the columns of `rows`.

    `cine_of(row)` gives a row's `Cine`. The preview is left out; `datasets.load_dataset(path_or_repo)` reads it too.
    Columns may be None (`seed`, `measured`), which PyTorch's `DataLoader` does not batch: give it
    `rows.select_columns(["cine", "shape", "phenotypes"])`, or take `CineStream`.

    Args:
        path_or_repo: a folder that `cpgg prepare` or `CineWriter` wrote, or a data set repository on the hub.
        split: "train", "validation" or "test".
        streaming: False gives a `datasets.Dataset`, memory-mapped from an arrow cache; True a
            `datasets.IterableDataset` that fetches rows on demand, in stored order.
            `CineStream` gives shuffled batches, and resumes exactly.
        revision: branch, tag or commit of a repository.
        cache_dir: where `datasets` keeps its arrow files; by default `HF_DATASETS_CACHE`.

    Raises:
        InputError: no data set there, no such split, or missing, damaged or foreign shards.
    """
    source = open_source(path_or_repo, revision)
    urls, listed = source.urls(split), json.dumps(source.description.get("sha256"))

    import datasets
    from pyarrow.dataset import ParquetFragmentScanOptions

    rows = datasets.load_dataset(
        "parquet",
        name=f"cines-{hashlib.sha256(listed.encode()).hexdigest()[:16]}",  # `datasets` itself compares file times only
        data_files={split: urls},
        split=split,
        streaming=streaming,
        cache_dir=None if cache_dir is None else str(cache_dir),
        columns=[name for name in row_schema().names if name != PREVIEW_COLUMN],
        fragment_scan_options=ParquetFragmentScanOptions(page_checksum_verification=True),
    )
    return rows.map(_decode, batched=True, batch_size=_ROWS_AT_ONCE) if streaming else rows.with_transform(_decode)


def _decode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """A batch of rows with any selection of columns, decoded."""
    decoded: dict[str, list[Any]] = dict(batch)
    if "cine" in batch:
        if "shape" not in batch:
            raise InputError("the column 'cine' needs the column 'shape'; select both or neither.")
        stored = zip(batch["cine"], batch["shape"], strict=True)
        decoded["cine"] = [decode_cine({"cine": cine, "shape": shape}) for cine, shape in stored]
    if "phenotypes" in batch:
        decoded["phenotypes"] = [np.array(values) for values in batch["phenotypes"]]
    return decoded
