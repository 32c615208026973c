"""Batches of cines from a memory-mapped data set: a cine is read only when a step needs it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from cpgg_hf.dataset import load_cines


class CineBatches(Dataset):
    """One split: `cines[[3, 17]]` gives cine (2, T, H, W) uint8 and phenotypes (2, 82) float32, NaN = missing.

    Args:
        path: a folder written by `cpgg prepare`.
        split: "train", "validation" or "test".
    """

    def __init__(self, path: str, split: str) -> None:
        self.rows = load_cines(path, split).select_columns(["cine", "shape", "phenotypes"])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        rows = self.rows[list(indices)]
        return {
            "cine": torch.from_numpy(np.stack(rows["cine"])),
            "phenotypes": torch.from_numpy(np.stack(rows["phenotypes"])).float(),
        }

    def phenotypes(self) -> np.ndarray:
        """All phenotypes of the split: (N, 82) float64, NaN = missing."""
        rows = self.rows.select_columns(["phenotypes"]).with_format("numpy", dtype=np.float64)
        return np.stack(rows["phenotypes"][:])

    def batches(self, batch_size: int, limit: int | None = None) -> Iterator[dict[str, torch.Tensor]]:
        """The split in its own order, the first `limit` cines or all."""
        end = len(self) if limit is None else min(limit, len(self))
        for first in range(0, end, batch_size):
            yield self[range(first, min(first + batch_size, end))]

    def fingerprint(self) -> str:
        """A hash of every phenotype and every cine, as stored."""
        digest = hashlib.sha256(self.phenotypes().tobytes())
        for table in self.rows.select_columns(["cine"]).with_format("arrow").iter(batch_size=256):
            for cine in table["cine"]:
                digest.update(cine.as_buffer())
        return digest.hexdigest()
