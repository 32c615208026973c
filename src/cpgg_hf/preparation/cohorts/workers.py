"""A cohort's chunks over processes; a process that dies takes nothing with it but the subject that killed it."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process

from cpgg_hf.preparation.cohorts.plan import Chunk
from cpgg_hf.preparation.cohorts.subject import Result, Task, prepare_subject, set_aside

_CHUNKS_AHEAD = 2  # for each process, so that none waits and few results are held
KILLED = (
    "the process that prepared it was killed twice, the second time with nothing else at work; most likely the "
    "memory ran out, or a library crashed on its files."
)


def prepare_chunks(chunks: Iterable[Chunk], num_processes: int) -> Iterator[tuple[Chunk, list[Result]]]:
    """The chunks with their results, each as soon as it is finished.

    With one process the work is done in this one; with more, in processes of their own. When one of those is killed,
    the chunks that were in work are done again, subject by subject.
    """
    if num_processes == 1:
        for chunk in chunks:
            yield chunk, prepare_tasks(chunk.tasks)
        return
    waiting = deque(chunks)
    while waiting:
        in_work: dict[Future[list[Result]], Chunk] = {}
        try:
            with _pool(num_processes) as pool:
                while waiting or in_work:
                    while waiting and len(in_work) < _CHUNKS_AHEAD * num_processes:
                        in_work[pool.submit(prepare_tasks, waiting[0].tasks)] = waiting[0]
                        waiting.popleft()
                    for future in wait(in_work, return_when=FIRST_COMPLETED).done:
                        results = future.result()
                        yield in_work.pop(future), results
        except BrokenProcessPool:
            warnings.warn(
                "a worker process was killed, most likely because the memory ran out (fewer processes need less); "
                f"the {sum(len(chunk.tasks) for chunk in in_work.values())} subjects that were in work are tried "
                "again one by one.",
                RuntimeWarning,
                stacklevel=2,
            )
        for chunk in in_work.values():
            yield chunk, _one_by_one(chunk.tasks)


def prepare_tasks(tasks: Sequence[Task]) -> list[Result]:
    """The results of some subjects, in their order."""
    return [prepare_subject(task) for task in tasks]


def _one_by_one(tasks: Sequence[Task]) -> list[Result]:
    """Each subject alone in a process; one whose process dies again is set aside."""
    results: list[Result] = []
    while len(results) < len(tasks):
        try:
            with _pool(1) as pool:
                for task in tasks[len(results) :]:
                    results += pool.submit(prepare_tasks, [task]).result()
        except BrokenProcessPool:
            results.append(set_aside(tasks[len(results)], KILLED))
    return results


@contextmanager
def _pool(num_processes: int) -> Iterator[ProcessPoolExecutor]:
    # Spawned, not forked: the caller may have threads running (torch, datasets), and a fork would inherit their locks.
    pool = ProcessPoolExecutor(num_processes, get_context("spawn"), initializer=_begin_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """A worker leaves Ctrl-C to the process that started it, and ends when that one is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
