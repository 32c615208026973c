"""What a data set's card tells of the data: counts, policies, and the distribution of every phenotype, by split.

One shard is in memory at a time, and of its columns only the small ones.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cpgg_hf.dataset.parquet import SPLITS, find_shards
from cpgg_hf.dataset.rows import NUM_PHENOTYPES
from cpgg_hf.phenotypes import phenotype_index

SHOWN = ("LVEDV", "LVEF", "LVM", "RVEDV", "RVEF", "LAV_max", "RAV_max", "WT_Global", "Ell_Global")
_LABELS = ("view", "source", "data_policy")
_MEASURES = ("spacing_mm", "frame_time_ms")


@dataclass
class SplitStatistics:
    """One split.

    Attributes:
        num_cines: rows.
        num_shards: files.
        num_bytes: of the files.
        labels: the values that `view`, `source` and `data_policy` take.
        shapes: the shapes (T, H, W) of the cines.
        ranges: smallest and largest `spacing_mm` and `frame_time_ms`.
        known: (82,) how many cines have each phenotype.
        mean: (82,) over those, NaN where none has it.
        sd: (82,) likewise.
        shown: (N, 9) float32 the phenotypes of `SHOWN`, for plots.
    """

    num_cines: int = 0
    num_shards: int = 0
    num_bytes: int = 0
    labels: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in _LABELS})
    shapes: set[tuple[int, ...]] = field(default_factory=set)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    known: np.ndarray = field(default_factory=lambda: np.zeros(NUM_PHENOTYPES, np.int64))
    mean: np.ndarray = field(default_factory=lambda: np.full(NUM_PHENOTYPES, np.nan))
    sd: np.ndarray = field(default_factory=lambda: np.full(NUM_PHENOTYPES, np.nan))
    shown: np.ndarray = field(default_factory=lambda: np.empty((0, len(SHOWN)), np.float32))


def read_statistics(folder: str | os.PathLike[str]) -> dict[str, SplitStatistics]:
    """The statistics of every split that a folder has, in the order train, validation, test."""
    found = {split: find_shards(folder, split) for split in SPLITS}
    return {split: _of_split(paths) for split, paths in found.items() if paths}


def _of_split(paths: list[Any]) -> SplitStatistics:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    split = SplitStatistics(num_shards=len(paths), num_bytes=sum(path.stat().st_size for path in paths))
    shown, columns = [], [phenotype_index(name) for name in SHOWN]
    # Sums of differences from the first values, which lie near the mean: no digits are lost.
    origin, total, squares = None, np.zeros(NUM_PHENOTYPES), np.zeros(NUM_PHENOTYPES)
    for path in paths:
        table = pq.read_table(path, columns=["phenotypes", "shape", *_LABELS, *_MEASURES])
        if not len(table):
            continue
        split.num_cines += len(table)
        for name, values in split.labels.items():
            values.update(pc.unique(table[name]).to_pylist())
        split.shapes.update(map(tuple, table["shape"].to_pylist()))
        for name in _MEASURES:
            low, high = pc.min_max(table[name]).as_py().values()
            known_low, known_high = split.ranges.get(name, (low, high))
            split.ranges[name] = min(low, known_low), max(high, known_high)
        phenotypes = table["phenotypes"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        phenotypes = phenotypes.reshape(-1, NUM_PHENOTYPES)
        shown.append(phenotypes[:, columns].astype(np.float32))
        if origin is None:
            origin = np.nan_to_num(phenotypes[0])
        given = np.isfinite(phenotypes)
        distance = np.where(given, phenotypes - origin, 0.0)
        split.known += given.sum(axis=0)
        total += distance.sum(axis=0)
        squares += (distance**2).sum(axis=0)
    if origin is not None:
        split.shown = np.concatenate(shown)
        some = split.known > 0
        mean = total[some] / split.known[some]
        split.mean[some] = origin[some] + mean
        split.sd[some] = np.sqrt((squares[some] / split.known[some] - mean**2).clip(0))
    return split
