"""`load_cines`: a split of a cine data set as plain `datasets` objects whose rows hold the cine itself."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
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
        path_or_repo: a folder that `cpgg prepare` or `CineWriter` wrote, or a data set repository on the Hub, also one
            to which `datasets.Dataset.push_to_hub` pushed such rows.
        split: "train", "validation" or "test"; unless streamed also a slice such as "train[:10]" or "train[10%:20%]".
        streaming: False gives a `datasets.Dataset`, memory-mapped from an arrow cache; True a
            `datasets.IterableDataset` that fetches rows on demand, in stored order.
            `CineStream` gives shuffled batches, and resumes exactly.
        revision: branch, tag or commit of a repository.
        cache_dir: where `datasets` keeps its arrow files; by default `HF_DATASETS_CACHE`.

    Raises:
        InputError: no data set there, no such split, or missing, damaged or foreign shards.
    """
    name, sliced, _ = split.partition("[")
    if streaming and sliced:
        raise InputError(
            f"a stream has no slices, given {split!r}; use streaming=False, or stream.skip and stream.take."
        )
    digests = None
    try:
        source = open_source(path_or_repo, revision)
        urls, digests = source.urls(name), source.description.get("sha256")
    except InputError:
        if Path(path_or_repo).exists():
            raise
        urls = _pushed_shards(os.fspath(path_or_repo), name, revision)
        if not urls:
            raise

    import datasets
    from pyarrow.dataset import ParquetFragmentScanOptions

    rows = datasets.load_dataset(
        "parquet",
        # `datasets` itself compares file times only.
        name=f"cines-{hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:16]}",
        data_files={name: [re.sub(r"([*?[])", r"[\1]", url) for url in urls]},  # not patterns
        split=split,
        streaming=streaming,
        cache_dir=None if cache_dir is None else str(cache_dir),
        columns=[name for name in row_schema().names if name != PREVIEW_COLUMN],
        fragment_scan_options=ParquetFragmentScanOptions(page_checksum_verification=True),
    )
    return rows.map(_decode, batched=True, batch_size=_ROWS_AT_ONCE) if streaming else rows.with_transform(_decode)


def _pushed_shards(repository: str, split: str, revision: str | None) -> list[str]:
    """Addresses of the shards that `Dataset.push_to_hub` wrote; none if there are none."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    try:
        info = HfApi().dataset_info(repository, revision=revision)
    except (HTTPError, OSError, ValueError):  # the first error says more
        return []
    names = sorted(file.rfilename for file in info.siblings or ())
    shards = [one for one in names if re.fullmatch(rf"data/{re.escape(split)}-\d+-of-\d+\.parquet", one)]
    return [f"hf://datasets/{repository}@{info.sha}/{one}" for one in shards]


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
