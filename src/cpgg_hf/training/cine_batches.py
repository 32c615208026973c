"""Batches of cines: from a data set that is unpacked into a memory-mapped cache once, or from a stream."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch.utils.data import Dataset

from cpgg_hf.dataset import load_cines
from cpgg_hf.dataset.stream import CineStream
from cpgg_hf.errors import TrainingError
from cpgg_hf.training.data_order import BatchPlan


class CineBatches(Dataset):
    """One split of a folder written by `cpgg prepare`.

    `cines[[3, 17]]` gives cine (2, T, H, W) uint8 and phenotypes (2, 82) float32, NaN = missing.
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


class StreamedCines:
    """One split of such a folder or of a repository on the Hub; each process reads only its own share."""

    def __init__(self, path_or_repo: str, split: str) -> None:
        self._place = (path_or_repo, split)
        self._stored = CineStream(path_or_repo, split, batch_size=1, seed=None)

    def __len__(self) -> int:
        return len(self._stored)

    def fingerprint(self) -> str:
        """A hash of `dataset.json`, which differs for data with other counts, sources or seeds."""
        return self._stored.state_dict()["data"]

    def batches(self, batch_size: int, limit: int | None = None) -> Iterator[dict[str, torch.Tensor]]:
        """The split in order, the first `limit` cines or all."""
        left = len(self) if limit is None else min(limit, len(self))
        stream = CineStream(*self._place, batch_size=batch_size, seed=None)
        for batch in islice(stream, -(-left // batch_size)):
            yield {name: values[:left] for name, values in batch.items()}
            left -= batch_size

    def training_batches(
        self, plan: BatchPlan, seed: int, process_index: int, first_step: int
    ) -> Iterator[dict[str, torch.Tensor]]:
        """One process's endless micro-batches from a step on; every epoch has its own order.

        Raises:
            TrainingError: the plan gives processes parts of different sizes.
        """
        parts = plan.accumulation * plan.num_processes
        if plan.global_batch_size % parts:
            raise TrainingError(
                f"a stream needs {parts} equal parts, but the global batch has {plan.global_batch_size} samples; "
                f"choose a multiple of {parts}, or leave out streaming."
            )
        stream = CineStream(
            *self._place,
            batch_size=plan.global_batch_size // parts,
            seed=seed,
            rank=process_index,
            world_size=plan.num_processes,
            drop_last=True,
        )
        steps_per_epoch = len(stream) // plan.accumulation
        epoch, position = divmod(first_step, steps_per_epoch)
        while True:
            given = position * plan.accumulation
            stream.load_state_dict({**stream.state_dict(), "epoch": epoch, "batches_given": given})
            yield from islice(stream, steps_per_epoch * plan.accumulation - given)
            epoch, position = epoch + 1, 0
