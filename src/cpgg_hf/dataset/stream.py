"""`CineStream`: batches for training from a folder or the Hub, shuffled, and exactly resumable.

`datasets` shuffles a stream through a buffer, which is lost when a run is interrupted. Here the order is a function of
(seed, epoch, share), see `stream_order`, so a position is enough to resume. Threads fetch and unpack row groups ahead
of the loop (zstd and parquet release the GIL), so a training loop needs no worker processes; with them
(`DataLoader(stream, batch_size=None, num_workers=2)`) each takes its own share.
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from cpgg_hf.dataset.row_groups import GroupReader, Rows
from cpgg_hf.dataset.rows import decode_cine_into
from cpgg_hf.dataset.source import open_source
from cpgg_hf.dataset.stream_order import Piece, Window, plan_windows, share_of, skip_rows


class CineStream(IterableDataset):
    """Batches `{"cine": (B, T, H, W) uint8, "phenotypes": (B, 82) float32}` of one split, one epoch per iteration.

    `set_epoch` before each epoch changes the order. `state_dict` holds the position after the last batch; a stream
    with the same arguments that loads it resumes with the next one, also inside torchdata's `StatefulDataLoader`.

    Args:
        path_or_repo: a folder that `cpgg prepare` or `CineWriter` wrote, or a data set repository on the Hub.
        split: "train", "validation" or "test".
        batch_size: cines per batch; the last batch of a process may be smaller.
        seed: seed of the order; None keeps the stored order.
        rank: this process's rank among those that share an epoch.
        world_size: number of processes that share an epoch.
        drop_last: whether to drop incomplete batches, so that all processes give equal numbers.
        groups_per_window: row groups (50 cines, 23 MB) whose rows are permuted together; twice as many are in memory.
        num_threads: threads that fetch and unpack row groups.
        revision: branch, tag or commit of a repository.

    Raises:
        InputError: no data set there, no such split, or missing, damaged or foreign shards.
    """

    def __init__(
        self,
        path_or_repo: str | os.PathLike[str],
        split: str = "train",
        *,
        batch_size: int = 32,
        seed: int | None = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        groups_per_window: int = 4,
        num_threads: int = 2,
        revision: str | None = None,
    ) -> None:
        for name, value in (
            ("batch_size", batch_size),
            ("world_size", world_size),
            ("groups_per_window", groups_per_window),
            ("num_threads", num_threads),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, given {value}.")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must lie in 0 to {world_size - 1}, given {rank}.")
        source = open_source(path_or_repo, revision)
        description = json.dumps(source.description, sort_keys=True)  # differs with counts, sources and seeds
        self._reader = GroupReader(source, split)
        self._settings: dict[str, Any] = {
            "data": hashlib.sha256(description.encode()).hexdigest()[:16],
            "split": split,
            "batch_size": batch_size,
            "seed": seed,
            "rank": rank,
            "world_size": world_size,
            "drop_last": drop_last,
            "groups_per_window": groups_per_window,
        }
        self._num_threads = num_threads
        # Shared memory, so that a data loader's persistent workers see `set_epoch`.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._given = (0, 0)  # epoch, and batches given of it
        self._resume: dict[str, Any] | None = None

    @property
    def epoch(self) -> int:
        """The epoch of the next iteration."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; a position loaded for another epoch is dropped."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Batches of this process in an epoch."""
        first, last = self._rows_of_process()
        num_rows, batch_size = last - first, self._settings["batch_size"]
        return num_rows // batch_size if self._settings["drop_last"] else -(-num_rows // batch_size)

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch, and the settings it belongs to; plain numbers and text."""
        epoch, batches_given = self._given
        batches_given = batches_given if epoch == self.epoch else 0
        return {"epoch": self.epoch, "batches_given": batches_given, **self._settings, **_worker()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume at the next iteration after the position from `state_dict`.

        Raises:
            ValueError: the state belongs to other data or settings.
        """
        for name, value in self._settings.items():
            if state.get(name) != value:
                raise ValueError(
                    f"the position was saved with {name} = {state.get(name)!r}, this stream has {value!r}; "
                    "use the same arguments."
                )
        self._epoch.fill_(state["epoch"])
        self._given = (state["epoch"], state["batches_given"])
        self._resume = dict(state)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        batch_size, epoch, worker = self._settings["batch_size"], self.epoch, _worker()
        first_batch, last_batch = share_of(len(self), worker["num_workers"], worker["worker"])
        start, end = self._rows_of_process()
        first, last = start + first_batch * batch_size, min(start + last_batch * batch_size, end)
        windows = plan_windows(
            self._reader.group_sizes,
            first,
            last,
            self._settings["groups_per_window"],
            self._settings["seed"],
            epoch,
        )
        given = self._take_resumed(worker)
        self._given = (epoch, given)
        with closing(self._rows(skip_rows(windows, given * batch_size))) as rows:
            while batch := _next_batch(rows, batch_size):
                given += 1
                self._given = (epoch, given)
                yield batch

    def _rows_of_process(self) -> tuple[int, int]:
        total, world_size = sum(self._reader.group_sizes), self._settings["world_size"]
        if self._settings["drop_last"]:
            total -= total % world_size
        return share_of(total, world_size, self._settings["rank"])

    def _take_resumed(self, worker: dict[str, int]) -> int:
        """The number of batches before a loaded position; a position is used once."""
        resume, self._resume = self._resume, None
        if resume is None or resume["epoch"] != self.epoch:
            return 0
        saved = {name: resume[name] for name in worker}
        if saved != worker:
            raise ValueError(
                f"the position was saved by data loader worker {saved['worker']} of {saved['num_workers']} and cannot "
                f"be continued by {worker['worker']} of {worker['num_workers']}; use the same number of workers with "
                "StatefulDataLoader, or none: the stream reads ahead by itself."
            )
        return resume["batches_given"]

    def _rows(self, windows: Sequence[Window]) -> Generator[tuple[Rows, int], None, None]:
        """The rows of windows, one after another, each as the piece that holds it and its index in it."""
        with closing(self._read_ahead([piece for window in windows for piece in window.pieces])) as pieces:
            for window in windows:
                held = (next(pieces) for _ in window.pieces)
                rows = [(piece, index) for piece in held for index in range(len(piece.encoded))]
                for number in window.order:
                    yield rows[number]

    def _read_ahead(self, pieces: Sequence[Piece]) -> Generator[Rows, None, None]:
        """The pieces in order, a window's worth being read ahead by threads."""
        waiting: deque[Future[Rows]] = deque()
        pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="cine-stream")
        try:
            for piece in pieces:
                waiting.append(pool.submit(self._reader.read, piece.group, piece.first, piece.last))
                if len(waiting) > self._settings["groups_per_window"]:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _next_batch(rows: Iterator[tuple[Rows, int]], batch_size: int) -> dict[str, torch.Tensor]:
    """The next rows as tensors; empty at the end."""
    chosen = list(islice(rows, batch_size))
    if not chosen:
        return {}
    cines = np.empty((len(chosen), *chosen[0][0].encoded.shape[1:]), np.uint8)
    for cine, (piece, index) in zip(cines, chosen, strict=True):
        decode_cine_into(cine, piece.encoded[index])
    return {
        "cine": torch.from_numpy(cines),
        "phenotypes": torch.from_numpy(np.stack([piece.phenotypes[index] for piece, index in chosen])),
    }


def _worker() -> dict[str, int]:
    """This process's data loader worker and the number of workers."""
    info = get_worker_info()
    return {"worker": 0, "num_workers": 1} if info is None else {"worker": info.id, "num_workers": info.num_workers}
