"""Statistics and plots for a data set's card: counts, policies, and the distribution of every phenotype per split.

One shard is in memory at a time, without its pixels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf.cine import NUM_PHENOTYPES
from cpgg_hf.dataset.parquet import SPLITS, find_shards
from cpgg_hf.files.staging import staged_file
from cpgg_hf.optional import import_optional
from cpgg_hf.phenotypes import PHENOTYPES, phenotype_index

SHOWN = ("LVEDV", "LVEF", "LVM", "RVEDV", "RVEF", "LAV_max", "RAV_max", "WT_Global", "Ell_Global")
_LABELS = ("view", "source", "data_policy")
_RANGES = ("spacing_mm", "frame_time_ms")
_COLORS = {"train": "#4c72b0", "validation": "#dd8452", "test": "#55a868"}
_COLUMNS = 3
_MOST_BINS = 30


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
        known: (82,) number of cines with each phenotype.
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
    # Sum differences from the first row, which is near the mean, to keep precision.
    origin, total, squares = None, np.zeros(NUM_PHENOTYPES), np.zeros(NUM_PHENOTYPES)
    for path in paths:
        table = pq.read_table(path, columns=["phenotypes", "shape", *_LABELS, *_RANGES])
        if not len(table):
            continue
        split.num_cines += len(table)
        for name, values in split.labels.items():
            values.update(pc.unique(table[name]).to_pylist())
        split.shapes.update(map(tuple, table["shape"].to_pylist()))
        for name in _RANGES:
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


def plot_phenotypes(splits: Mapping[str, SplitStatistics], path: Path) -> Path:
    """Draw one histogram per phenotype of `SHOWN`, in percent of each split's cines that have it.

    Args:
        splits: by name.
        path: the PNG; appears complete or not at all.

    Raises:
        ImportError: matplotlib is not installed.
    """
    rows = -(-len(SHOWN) // _COLUMNS)
    figure = import_optional("matplotlib.figure", "pictures").Figure(figsize=(3.2 * _COLUMNS, 2.2 * rows + 0.4))
    axes = figure.subplots(rows, _COLUMNS).ravel()
    for column, (name, axis) in enumerate(zip(SHOWN, axes, strict=True)):
        values = {split: of_split.shown[:, column] for split, of_split in splits.items()}
        values = {split: given[np.isfinite(given)] for split, given in values.items()}
        values = {split: given for split, given in values.items() if len(given)}
        phenotype = PHENOTYPES[phenotype_index(name)]
        axis.set_xlabel(f"{name} ({phenotype.unit})", fontsize=8)
        axis.tick_params(labelsize=7)
        if not values:
            axis.text(0.5, 0.5, "not known", transform=axis.transAxes, ha="center", va="center", fontsize=8)
            continue
        everything = np.concatenate(list(values.values()))
        edges = np.histogram_bin_edges(everything, min(_MOST_BINS, math.ceil(2 * len(everything) ** (1 / 3))))  # Rice
        for split, given in values.items():
            share = np.full(len(given), 100 / len(given))
            axis.hist(given, edges, weights=share, histtype="stepfilled", **_style(split))
    for row in range(rows):
        axes[row * _COLUMNS].set_ylabel("% of cines", fontsize=8)
    patch = import_optional("matplotlib.patches", "pictures").Patch
    handles = [patch(**_style(split), label=f"{split} ({splits[split].num_cines:,})") for split in splits]
    figure.legend(handles=handles, loc="upper center", ncols=len(handles), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.96))
    with staged_file(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
    return path


def _style(split: str) -> dict[str, Any]:
    """The training split as an area, the others as lines over it."""
    color = _COLORS[split]
    return {"facecolor": f"{color}59" if split == "train" else "none", "edgecolor": color}
