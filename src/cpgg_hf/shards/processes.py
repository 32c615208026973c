"""Shards made by local worker processes; when a process dies, only the shards in flight are made again."""

import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TypeVar

from cpgg_hf.errors import OutputError
from cpgg_hf.files.staging import disk_full_as_error
from cpgg_hf.shards.engine import ShardFolder, make_shards, working
from cpgg_hf.shards.plan import Shard, ShardPlan

_SHARDS_AHEAD = 2  # per process, so that none waits
Result = TypeVar("Result")


def make_shards_in_processes(
    folder: Path,
    plan: ShardPlan,
    job: Callable[[Shard], Callable[[Path], None]],
    num_processes: int,
    *,
    after_crash: Callable[[Shard, Path], None] | None = None,
    on_shard: Callable[[Shard], None] = lambda _: None,
) -> None:
    """Make all shards of a plan that are not complete yet, in several processes.

    Args:
        folder: created if missing.
        plan: as of `make_shards`.
        job: returns for a shard a picklable function that writes it to a path, complete or not at all.
        num_processes: 1 does the work in this process, unless `after_crash` is given.
        after_crash: writes a shard that was in progress when a process died, as any process may; by default its job
            runs once more.
        on_shard: called for each complete shard, made now or before.

    Raises:
        OutputError: a full disk, another run is active in the folder, processes cannot start, or a shard's process
            died twice.
    """
    if num_processes == 1 and after_crash is None:
        make_shards(folder, plan, lambda shard, path: job(shard)(path), on_shard=on_shard)
        return
    shards = ShardFolder(folder, plan)
    write_again = after_crash or (lambda shard, path: run_alone(job(shard), path))

    def finish(shard: Shard) -> None:
        shards.add(shard)
        on_shard(shard)

    with working(folder), disk_full_as_error(folder):
        waiting: deque[Shard] = deque()
        for shard in plan.shards:
            if shards.is_complete(shard):
                on_shard(shard)
            else:
                shards.discard(shard)
                waiting.append(shard)
        while waiting:
            in_flight: dict[Future[None], Shard] = {}
            try:
                with _worker_processes(num_processes) as pool:
                    while waiting or in_flight:
                        while waiting and len(in_flight) < _SHARDS_AHEAD * num_processes:
                            future = pool.submit(job(waiting[0]), shards.path(waiting[0]))
                            in_flight[future] = waiting.popleft()
                        for future in wait(in_flight, return_when=FIRST_COMPLETED).done:
                            future.result()
                            finish(in_flight.pop(future))
            except BrokenProcessPool:
                warnings.warn(
                    "a worker process was killed, most likely because the memory ran out (fewer processes need less) "
                    f"or a time limit was reached; the {len(in_flight)} shards in progress are made again one by one.",
                    RuntimeWarning,
                    stacklevel=2,
                )
                for shard in in_flight.values():
                    path = shards.path(shard)
                    shards.discard(shard)
                    try:
                        write_again(shard, path)
                    except BrokenProcessPool:
                        raise OutputError(
                            f"the process that made {path} was killed twice; free some memory, then run the same "
                            "command again."
                        ) from None
                    finish(shard)


def run_alone(function: Callable[..., Result], *arguments: object) -> Result:
    """The result of a picklable function in a new process; BrokenProcessPool if that process dies."""
    with _worker_processes(1) as pool:
        return pool.submit(function, *arguments).result()


@contextmanager
def _worker_processes(num_processes: int) -> Iterator[ProcessPoolExecutor]:
    # Spawned: a fork would inherit the locks of the caller's threads (torch, datasets).
    pool = ProcessPoolExecutor(num_processes, get_context("spawn"), initializer=_begin_worker)
    try:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool:
            raise OutputError(
                "worker processes cannot start; if a script called this, let it do so under `if __name__ == "
                '"__main__":`, which they import.'
            ) from None
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
