"""The engine: shards are complete or made again, whoever was killed where, and two runs never mix."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from cpgg_hf.errors import OutputError
from cpgg_hf.files.staging import staged_file
from cpgg_hf.shards import Shard, ShardFolder, ShardPlan, checksum, locked, make_shards


def plan_of(num_shards=5, **settings):
    edges = range(0, 10 * num_shards + 1, 10)
    return ShardPlan(settings, tuple(Shard(f"{a:03d}.bin", "all", a, b) for a, b in pairwise(edges)))


def write(shard, path):
    with staged_file(path) as partial:
        partial.write_bytes(bytes(range(shard.first, shard.last)))


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.bin")}


@pytest.fixture
def expected(tmp_path):
    make_shards(tmp_path / "expected", plan_of(), write)
    return contents(tmp_path / "expected")


def test_everything_is_made_once(tmp_path, expected):
    made, seen = [], []

    def noting(shard, path):
        made.append(shard.name)
        write(shard, path)

    for _ in range(2):
        assert make_shards(tmp_path / "out", plan_of(), noting, on_shard=seen.append)
    assert made == sorted(expected)
    assert [shard.first for shard in seen] == 2 * [0, 10, 20, 30, 40]
    assert (
        contents(tmp_path / "out") == expected == {f"{a:03d}.bin": bytes(range(a, a + 10)) for a in range(0, 50, 10)}
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_workers_share_by_number_and_the_last_one_knows(tmp_path, expected, order):
    finished = []
    for worker in order:
        owned = []
        finished.append(make_shards(tmp_path, plan_of(), write, worker=worker, num_workers=3, on_shard=owned.append))
        assert [shard.first // 10 % 3 for shard in owned] == [worker] * len(owned)
    assert finished == [False, False, True]
    assert contents(tmp_path) == expected


@pytest.mark.parametrize(
    "damage",
    [
        lambda path, record: path.write_bytes(path.read_bytes()[:-1]),
        lambda path, record: path.write_bytes(b"x" + path.read_bytes()[1:]),
        lambda path, record: path.unlink(),
        lambda path, record: record.unlink(),
        lambda path, record: record.write_text(record.read_text()[:-5]),
        lambda path, record: record.write_text("[]"),
        lambda path, record: record.write_text('{"plan": "another", "sha256": "' + checksum(path) + '"}'),
    ],
    ids=["cut off", "flipped", "gone", "no record", "cut record", "foreign record", "other plan"],
)
def test_a_shard_that_is_not_complete_is_made_again(tmp_path, expected, damage):
    make_shards(tmp_path, plan_of(), write)
    damage(tmp_path / "020.bin", tmp_path / ".shards" / "020.bin.json")
    assert [shard.name for shard in ShardFolder(tmp_path, plan_of()).missing()] == ["020.bin"]
    made = []
    make_shards(tmp_path, plan_of(), lambda shard, path: (made.append(shard.name), write(shard, path)))
    assert made == ["020.bin"]
    assert contents(tmp_path) == expected
    assert not ShardFolder(tmp_path, plan_of()).missing()


def test_shards_of_another_plan_are_made_again(tmp_path):
    make_shards(tmp_path, plan_of(seed=1), write)
    assert len(ShardFolder(tmp_path, plan_of(seed=2)).missing()) == 5


def test_a_record_has_the_checksum_of_its_file(tmp_path):
    make_shards(tmp_path, plan_of(2), write)
    for name, content in contents(tmp_path).items():
        record = json.loads((tmp_path / ".shards" / f"{name}.json").read_text())
        assert record["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_folders_checksum_sees_names_and_contents(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a").write_text("1")
    before = checksum(tmp_path / "one")
    (tmp_path / "one" / "a").rename(tmp_path / "one" / "b")
    renamed = checksum(tmp_path / "one")
    (tmp_path / "one" / "b").write_text("2")
    assert len({before, renamed, checksum(tmp_path / "one")}) == 3


def test_a_second_run_of_the_same_worker_is_refused(tmp_path):
    with locked(tmp_path, "worker 0"):
        with pytest.raises(OutputError, match=r"another run \(worker 0\) is active in .*; wait until it ends"):
            make_shards(tmp_path, plan_of(), write)
        assert not make_shards(tmp_path, plan_of(), write, worker=1, num_workers=2)
    assert make_shards(tmp_path, plan_of(), write)


def test_a_full_disk_is_one_sentence_and_what_is_finished_is_kept(tmp_path, expected):
    def full(shard, path):
        if shard.first == 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(shard, path)

    with pytest.raises(OutputError, match=r"the disk of .* is full"):
        make_shards(tmp_path, plan_of(), full)
    assert sorted(contents(tmp_path)) == ["000.bin", "010.bin"]
    make_shards(tmp_path, plan_of(), write)
    assert contents(tmp_path) == expected


def test_a_run_with_another_number_of_workers_is_refused_and_changes_nothing(tmp_path, expected):
    """It would share out the shards differently: both would write and discard the same ones."""

    def write_while_another_starts(shard, path):
        with staged_file(path) as partial:
            partial.write_bytes(bytes(range(shard.first, shard.last)))
            if shard.first <= 10:  # the other one's shards are missing still
                with pytest.raises(OutputError, match=r"another run \(1 workers\) is active"):
                    make_shards(tmp_path, plan_of(), write, worker=1, num_workers=2)

    assert make_shards(tmp_path, plan_of(), write_while_another_starts)
    assert contents(tmp_path) == expected
    assert make_shards(tmp_path, plan_of(), write, worker=1, num_workers=2)


def test_workers_of_one_run_work_at_the_same_time(tmp_path, expected):
    def write_while_worker_1_works(shard, path):
        make_shards(tmp_path, plan_of(), write, worker=1, num_workers=2)
        write(shard, path)

    assert make_shards(tmp_path, plan_of(), write_while_worker_1_works, worker=0, num_workers=2)
    assert contents(tmp_path) == expected


def test_a_complete_folder_needs_no_lock(tmp_path):
    make_shards(tmp_path, plan_of(), write)
    with locked(tmp_path, "worker 0"):
        assert make_shards(tmp_path, plan_of(), write)


def test_a_folders_checksum_separates_its_files(tmp_path):
    for folder, files in (("two", {"a": "x", "b": "y"}), ("one", {"a": "xb\0y"}), ("sized", {"a": "xb\x001\0y"})):
        (tmp_path / folder).mkdir()
        for name, content in files.items():
            (tmp_path / folder / name).write_text(content)
    assert len({checksum(tmp_path / folder) for folder in ("two", "one", "sized")}) == 3


SCRIPT = """
import os, signal, sys
from pathlib import Path
from cpgg_hf.files.staging import staged_file
from cpgg_hf.shards import engine, make_shards
from tests.shards.test_engine import plan_of

place, moment = sys.argv[1], int(sys.argv[2])
steps = 0
def step():
    global steps
    steps += 1
    if steps == moment:
        os.kill(os.getpid(), signal.SIGKILL)

def write(shard, path):
    step()
    with staged_file(path) as partial:
        with partial.open("wb") as file:
            for byte in range(shard.first, shard.last):
                file.write(bytes([byte]))
                if byte % 10 == 5:
                    file.flush()
                    step()
        step()
    step()

own = engine.ShardFolder.add
engine.ShardFolder.add = lambda self, shard: (own(self, shard), step())
make_shards(Path(place), plan_of(), write)
"""


@pytest.mark.parametrize("moment", range(1, 13, 2))
def test_killed_anywhere_it_ends_in_the_same_bytes_and_leaves_nothing(tmp_path, expected, moment):
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "out"), str(moment)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert make_shards(tmp_path / "out", plan_of(), write)
    assert contents(tmp_path / "out") == expected
    assert [path.name for path in (tmp_path / "out").iterdir() if ".partial" in path.name] == []
