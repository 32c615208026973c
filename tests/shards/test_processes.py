"""Shards by worker processes: the same bytes, and a process that dies costs nothing but its shard's second try."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from cpgg_hf.errors import OutputError
from cpgg_hf.files.staging import staged_file
from cpgg_hf.shards import make_shards_in_processes

from .test_engine import contents, plan_of


def write_bytes(shard, path):
    with staged_file(path) as partial_path:
        partial_path.write_bytes(bytes(range(shard.first, shard.last)))


def write_or_die(shard, marker, path):
    """Dies at shard 20, the first time only if there is a marker to leave."""
    if shard.first == 20 and not (marker is not None and marker.exists()):
        if marker is not None:
            marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    write_bytes(shard, path)


def test_two_processes_write_what_one_writes(tmp_path):
    seen = []
    for processes in (1, 2):
        job = partial(partial, write_bytes)
        make_shards_in_processes(tmp_path / str(processes), plan_of(), job, processes, on_shard=seen.append)
    assert contents(tmp_path / "1") == contents(tmp_path / "2") != {}
    assert sorted(shard.first for shard in seen[5:]) == [0, 10, 20, 30, 40]


def test_a_killed_process_costs_a_second_try(tmp_path):
    job = lambda shard: partial(write_or_die, shard, tmp_path / "marker")  # noqa: E731
    with pytest.warns(RuntimeWarning, match=r"a worker process was killed.*made again one by one"):
        make_shards_in_processes(tmp_path / "out", plan_of(), job, 2)
    assert sorted(contents(tmp_path / "out")) == ["000.bin", "010.bin", "020.bin", "030.bin", "040.bin"]


def test_a_shard_that_kills_twice_ends_the_run_or_is_left_to_the_caller(tmp_path):
    job = lambda shard: partial(write_or_die, shard, None)  # noqa: E731
    with pytest.warns(RuntimeWarning), pytest.raises(OutputError, match=r"made .*020\.bin was killed twice"):
        make_shards_in_processes(tmp_path / "out", plan_of(), job, 2)

    def replace(shard, path: Path):
        path.write_bytes(b"instead" if shard.first == 20 else bytes(range(shard.first, shard.last)))

    with pytest.warns(RuntimeWarning):
        make_shards_in_processes(tmp_path / "out", plan_of(), job, 2, after_crash=replace)
    assert contents(tmp_path / "out")["020.bin"] == b"instead"
