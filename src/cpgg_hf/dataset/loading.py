"""`load_cines`: a split of a cine data set as plain `datasets` objects whose rows hold the cine itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from cpgg_hf.dataset.rows import PREVIEW_COLUMN, decode_cine, row_schema
from cpgg_hf.dataset.source import open_source
from cpgg_hf.errors import InputError

if TYPE_CHECKING:
    import datasets

CINE_TYPES = ("uint8", "float32")
_ROWS_AT_ONCE = 16


@overload
def load_cines(
    path_or_repo: str | os.PathLike[str],
    split: str = ...,
    streaming: Literal[False] = ...,
    *,
    dtype: str = ...,
    revision: str | None = ...,
    cache_dir: str | os.PathLike[str] | None = ...,
) -> datasets.Dataset: ...


@overload
def load_cines(
    path_or_repo: str | os.PathLike[str],
    split: str = ...,
    *,
    streaming: Literal[True],
    dtype: str = ...,
    revision: str | None = ...,
) -> datasets.IterableDataset: ...


def load_cines(
    path_or_repo: str | os.PathLike[str],
    split: str = "train",
    streaming: bool = False,
    *,
    dtype: str = "uint8",
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> datasets.Dataset | datasets.IterableDataset:
    """One split of a cine data set: rows with `cine` (T, H, W), `phenotypes` (82,) and the columns of `cine_row`.

    The preview is left out; `datasets.load_dataset(path_or_repo)` reads that too, and cines as `cine_encoding` says.
    Columns may be None (`seed`, `measured`), which PyTorch's `DataLoader` does not batch: give it
    `rows.select_columns(["cine", "shape", "phenotypes"])`, or take `CineStream`.

    Args:
        path_or_repo: a folder that `cpgg prepare` or `CineWriter` wrote, or a data set repository on the hub.
        split: "train", "validation" or "test".
        streaming: False gives a `datasets.Dataset`, memory-mapped from an arrow cache; True a
            `datasets.IterableDataset` that fetches rows as they are asked for, in the order they are stored.
            `CineStream` gives shuffled batches, and goes on exactly where it was interrupted.
        dtype: of the cines: "uint8", or "float32" for values in [0, 1].
        revision: branch, tag or commit of a repository.
        cache_dir: where `datasets` keeps its arrow files; by default `HF_DATASETS_CACHE`.

    Raises:
        InputError: no data set there, no such split, or shards that are missing, damaged or of other data.
    """
    if dtype not in CINE_TYPES:
        raise ValueError(f"dtype must be one of {', '.join(CINE_TYPES)}, given {dtype!r}.")
    urls = open_source(path_or_repo, revision).urls(split)

    import datasets

    rows = datasets.load_dataset(
        "parquet",
        data_files={split: urls},
        split=split,
        streaming=streaming,
        cache_dir=None if cache_dir is None else str(cache_dir),
        columns=[name for name in row_schema().names if name != PREVIEW_COLUMN],
    )
    decoder = _Decoder(dtype)
    return rows.map(decoder, batched=True, batch_size=_ROWS_AT_ONCE) if streaming else rows.with_transform(decoder)


class _Decoder:
    """Decodes a batch of rows, of whatever columns were selected. A class, so that data loaders can pickle it."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        decoded: dict[str, list[Any]] = dict(batch)
        if "cine" in batch:
            if "shape" not in batch:
                raise InputError("a cine is read with the column 'shape'; select both, or neither.")
            coded = zip(batch["cine"], batch["shape"], strict=True)
            cines = [decode_cine({"cine": cine, "shape": shape}) for cine, shape in coded]
            decoded["cine"] = [cine.astype(np.float32) / 255 for cine in cines] if self.dtype == "float32" else cines
        if "phenotypes" in batch:
            decoded["phenotypes"] = [np.array(values) for values in batch["phenotypes"]]
        return decoded
