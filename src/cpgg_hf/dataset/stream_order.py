"""Which rows a reader of a stream gives, and in which order: a function of (seed, epoch, share) alone.

The row groups of a split are put in an order drawn from (seed, epoch). The rows, strung together in that order, are
cut into one share a process, and those into one share a data loader's worker, at most one row group being read by two
of them; so no row is lost and none given twice. Within a share the rows of a few consecutive groups, a window, are
permuted together. Nothing is held back in a buffer, so any position can be started from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ROWS_OF_WINDOWS = 1  # sets the permutations of windows apart from that of the groups


@dataclass(frozen=True)
class Piece:
    """Rows `first` to `last` - 1 of a row group."""

    group: int
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first


@dataclass(frozen=True)
class Window:
    """Pieces that are read together, and the order in which their rows are given: indices into all of them."""

    pieces: tuple[Piece, ...]
    order: np.ndarray


def share_of(total: int, num_shares: int, index: int) -> tuple[int, int]:
    """The range of share `index` of `total` things; shares differ by one at most."""
    return total * index // num_shares, total * (index + 1) // num_shares


def plan_windows(
    group_sizes: Sequence[int], first: int, last: int, groups_per_window: int, seed: int | None, epoch: int
) -> list[Window]:
    """The windows of one share of an epoch.

    Args:
        group_sizes: rows of every row group of the split.
        first: where the share begins in the sequence of all rows.
        last: where it ends.
        groups_per_window: how many groups are permuted together.
        seed: of the order; None keeps the stored order.
        epoch: another one gives another order.
    """
    order = np.arange(len(group_sizes))
    if seed is not None:
        order = np.random.default_rng([seed, epoch]).permutation(order)
    ends = np.cumsum(np.asarray(group_sizes)[order])
    pieces = []
    for group, end in zip(order.tolist(), ends.tolist(), strict=True):
        start = end - group_sizes[group]
        if max(first, start) < min(last, end):
            pieces.append(Piece(group, max(first, start) - start, min(last, end) - start))
    windows = []
    position = first
    for index in range(0, len(pieces), groups_per_window):
        of_window = tuple(pieces[index : index + groups_per_window])
        rows = np.arange(sum(len(piece) for piece in of_window))
        if seed is not None:
            rows = np.random.default_rng([seed, epoch, _ROWS_OF_WINDOWS, position]).permutation(rows)
        windows.append(Window(of_window, rows))
        position += len(rows)
    return windows


def skip_rows(windows: Sequence[Window], num_rows: int) -> list[Window]:
    """What is left of windows after their first rows were given; a window that was begun keeps its pieces."""
    left = []
    for window in windows:
        skipped = min(num_rows, len(window.order))
        num_rows -= skipped
        if skipped < len(window.order):
            left.append(Window(window.pieces, window.order[skipped:]))
    return left
