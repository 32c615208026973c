"""`CineWriter`: the cines of one split as shards, in the order they are added."""

import os
from pathlib import Path
from typing import Any, Self

from cpgg_hf.cine import Cine
from cpgg_hf.dataset.parquet import shard_path, write_shard
from cpgg_hf.dataset.rows import cine_row
from cpgg_hf.errors import InputError


class CineWriter:
    """Write the cines of one split as shards, in the order they are added; nothing remains after an error.

    Shard names contain the number of shards, which is known only at the end, so shards have hidden names until
    the `with` block succeeds.

    Args:
        folder: the data set's folder; created if missing.
        split: "train", "validation" or "test"; must not exist in the folder yet.
        shard_size: cines per shard.

    Raises:
        ValueError: no such split, or a shard_size below 1.
        InputError: the folder has the split already.
    """

    def __init__(self, folder: str | os.PathLike[str], split: str, shard_size: int = 250) -> None:
        self.folder = Path(folder)
        self.split = split
        self.shard_size = shard_size
        shard_path(self.folder, split, 0, 1)
        if shard_size < 1:
            raise ValueError(f"shard_size must be at least 1, given {shard_size}.")
        existing = sorted(self.folder.glob(f"{split}-*.parquet"))
        if existing:
            raise InputError(f"{existing[0]} exists already; choose another folder, or delete the split first.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._rows: list[dict[str, Any]] = []
        self._waiting: list[Path] = []

    def add(self, cine: Cine, **details: Any) -> None:
        """Add one cine; `details` as in `cine_row`."""
        self._rows.append(cine_row(cine, **details))
        if len(self._rows) == self.shard_size:
            self._flush()

    def _flush(self) -> None:
        path = self.folder / f".{self.split}-{len(self._waiting):05d}.waiting"
        write_shard(self._rows, path)
        self._waiting.append(path)
        self._rows = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        try:
            if exception_type is None:
                if self._rows:
                    self._flush()
                for index, path in enumerate(self._waiting):
                    path.replace(shard_path(self.folder, self.split, index, len(self._waiting)))
        finally:
            for path in self._waiting:
                path.unlink(missing_ok=True)
