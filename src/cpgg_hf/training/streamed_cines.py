"""Cines read as a stream, from a folder or the Hub: nothing is copied first, and each process reads its own share.

`CineBatches` instead unpacks the data set into a memory-mapped cache once and reads single cines from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch

from cpgg_hf.dataset.stream import CineStream
from cpgg_hf.errors import TrainingError
from cpgg_hf.training.data_order import BatchPlan


class StreamedCines:
    """One split, in shuffled batches for training or in its own order.

    Args:
        path_or_repo: a folder written by `cpgg prepare`, or a data set repository on the Hub.
        split: "train", "validation" or "test".
    """

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
            state: dict[str, Any] = {**stream.state_dict(), "epoch": epoch, "batches_given": given}
            stream.load_state_dict(state)
            yield from islice(stream, steps_per_epoch * plan.accumulation - given)
            epoch, position = epoch + 1, 0
