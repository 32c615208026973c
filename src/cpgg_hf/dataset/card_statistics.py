"""Statistics and plots for a data set's card: counts, policies, and the distribution of every phenotype per split."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class SplitStatistics:
    """One split.

    Attributes:
        num_shards: files.
        num_bytes: size of the files.
        labels: the values that `view`, `source` and `data_policy` take.
        shapes: the shapes (T, H, W) of the cines.
        ranges: smallest and largest `spacing_mm` and `frame_time_ms`; empty without cines.
        phenotypes: (N, 82), NaN = missing.
    """

    num_shards: int
    num_bytes: int
    labels: dict[str, set[str]]
    shapes: set[tuple[int, ...]]
    ranges: dict[str, tuple[float, float]]
    phenotypes: np.ndarray

    @property
    def num_cines(self) -> int:
        """Rows."""
        return len(self.phenotypes)

    def known(self, phenotype: int | str) -> np.ndarray:
        """The values of a phenotype, by index or name, in the cines that have it."""
        index = phenotype if isinstance(phenotype, int) else phenotype_index(phenotype)
        values = self.phenotypes[:, index]
        return values[np.isfinite(values)]


def read_statistics(folder: str | os.PathLike[str]) -> dict[str, SplitStatistics]:
    """The statistics of every split that a folder has, in the order train, validation, test."""
    found = {split: find_shards(folder, split) for split in SPLITS}
    return {split: _of_split(paths) for split, paths in found.items() if paths}


def _of_split(paths: list[Path]) -> SplitStatistics:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    columns = ["phenotypes", "shape", *_LABELS, *_RANGES]
    rows = pa.concat_tables(pq.read_table(path, columns=columns) for path in paths)
    phenotypes = rows["phenotypes"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return SplitStatistics(
        num_shards=len(paths),
        num_bytes=sum(path.stat().st_size for path in paths),
        labels={name: set(pc.unique(rows[name]).to_pylist()) for name in _LABELS},
        shapes=set(map(tuple, rows["shape"].to_pylist())),
        ranges={name: tuple(pc.min_max(rows[name]).as_py().values()) for name in _RANGES} if len(rows) else {},
        phenotypes=phenotypes.reshape(-1, NUM_PHENOTYPES),
    )


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
    for name, axis in zip(SHOWN, axes, strict=True):
        values = {split: given for split, of_split in splits.items() if len(given := of_split.known(name))}
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
