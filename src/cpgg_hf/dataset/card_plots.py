"""The picture on a data set's card: how the main phenotypes are distributed in every split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf.dataset.card_statistics import SHOWN, SplitStatistics
from cpgg_hf.files.staging import staged_file
from cpgg_hf.optional import import_optional
from cpgg_hf.phenotypes import PHENOTYPES, phenotype_index

_COLORS = {"train": "#4c72b0", "validation": "#dd8452", "test": "#55a868"}
_COLUMNS = 3
_MOST_BINS = 30


def plot_phenotypes(splits: Mapping[str, SplitStatistics], path: Path) -> Path:
    """Draws a histogram a phenotype of `SHOWN`, in percent of each split's cines that have it.

    Args:
        splits: by name.
        path: the PNG; appears whole or not at all.

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
