"""Row groups of a split as arrays: the unit that a stream fetches and unpacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cpgg_hf.cine import NUM_PHENOTYPES
from cpgg_hf.dataset.parquet import ROWS_PER_GROUP
from cpgg_hf.errors import InputError, brief

if TYPE_CHECKING:
    import pyarrow

    from cpgg_hf.dataset.source import CineSource

_COLUMNS = ("cine", "shape", "phenotypes")


class Rows(NamedTuple):
    """Some rows of a group."""

    encoded: np.ndarray
    """(N, T, H, W) uint8, the cines encoded as in `rows`, in parquet's own memory."""
    phenotypes: np.ndarray
    """(N, 82) float32 in physical units, NaN = missing."""


class GroupReader:
    """Reads the row groups of one split, numbered across its shards; safe to share between threads.

    Args:
        source: the data set.
        split: one of its splits.

    Attributes:
        group_sizes: rows of every group.

    Raises:
        InputError: no such split, or missing, damaged or foreign shards.
    """

    def __init__(self, source: CineSource, split: str) -> None:
        self._source = source
        self._groups: list[tuple[str, int]] = []  # of every group: its shard, and its number in there
        self.group_sizes: list[int] = []
        self._footers: dict[str, pyarrow.parquet.FileMetaData] = {}
        shards = source.shards(split)
        self._counts = dict(zip(shards, source.description["splits"][split]["cines_per_shard"], strict=True))
        for path, count in self._counts.items():
            for index, first in enumerate(range(0, count, ROWS_PER_GROUP)):
                self._groups.append((path, index))
                self.group_sizes.append(min(ROWS_PER_GROUP, count - first))

    def read(self, group: int, first: int, last: int) -> Rows:
        """Rows `first` to `last` - 1 of a group.

        Raises:
            InputError: the shard is damaged, has another number of rows, or its cines differ in shape.
        """
        path, index = self._groups[group]
        try:
            table = self._fetch(path, index)
        except InputError:
            raise
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read ({brief(error)}); download or prepare the data set again."
            ) from None
        shapes = _values(table["shape"], first, last, 3)
        if (shapes != shapes[0]).any():
            raise InputError(
                f"{path} holds cines of shape {tuple(shapes[0])} and others; a stream needs one shape: "
                "read them with load_cines."
            )
        encoded = _joined(table["cine"]).reshape(len(table), *shapes[0])[first:last]
        phenotypes = _values(table["phenotypes"], first, last, NUM_PHENOTYPES).astype(np.float32)
        return Rows(encoded, phenotypes)

    def _fetch(self, path: str, index: int) -> pyarrow.Table:
        import pyarrow.parquet as pq

        with self._source.filesystem().open(path, "rb", cache_type="none") as file:
            footer = self._footers.get(path)
            shard = pq.ParquetFile(file, metadata=footer, pre_buffer=True, page_checksum_verification=True)
            if shard.metadata.num_rows != self._counts[path]:
                raise InputError(
                    f"{path} holds {shard.metadata.num_rows} cines but dataset.json lists {self._counts[path]}; "
                    "download or prepare the data set again."
                )
            if footer is None:
                self._source.verify(path)
                self._footers[path] = shard.metadata
            return shard.read_row_group(index, columns=_COLUMNS, use_threads=False)


def _values(column: Any, first: int, last: int, width: int) -> np.ndarray:
    """Rows of a column of lists that all have `width` numbers: (last - first, width)."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)[first:last]


def _joined(column: Any) -> np.ndarray:
    """The bytes of a binary column one after another, without a copy."""
    array = column.combine_chunks()
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    return np.frombuffer(array.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
