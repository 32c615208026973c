"""The rows of a stream's share and their order: a function of (seed, epoch, share) only.

The row groups of a split are put in an order drawn from (seed, epoch). The rows, concatenated in that order, are
cut into one share per process, and those into one share per data loader worker; neighbours share at most one row
group, so no row is lost or repeated. Within a share the rows of a few consecutive groups, a window, are
permuted together. There is no buffer, so reading can start from any position.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ROWS_OF_WINDOWS = 1  # separates the random streams of windows and groups


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
    """The range of share `index` of `total` items; sizes differ by at most one."""
    return total * index // num_shares, total * (index + 1) // num_shares


def plan_windows(
    group_sizes: Sequence[int], first: int, last: int, groups_per_window: int, seed: int | None, epoch: int
) -> list[Window]:
    """The windows of one share of an epoch.

    Args:
        group_sizes: rows of every row group of the split.
        first: start of the share in the sequence of all rows.
        last: end of the share.
        groups_per_window: number of groups permuted together.
        seed: seed of the order; None keeps the stored order.
        epoch: each epoch has its own order.
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
    """The windows that remain after their first rows; a partly read window keeps its pieces."""
    left = []
    for window in windows:
        skipped = min(num_rows, len(window.order))
        num_rows -= skipped
        if skipped < len(window.order):
            left.append(Window(window.pieces, window.order[skipped:]))
    return left
