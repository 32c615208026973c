"""Processes on one folder: they share the work, and kills at any moment change nothing of the result."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cpgg_hf.cli.generate import generate
from cpgg_hf.cli.main import build_parser

ROOT = Path(__file__).parents[2]
NUM_CINES, SHARD_SIZE = 16, 2
FORMATS = ("nifti", "npz", "dicom", "parquet")


def make_all(model, folder):
    flags = ["--model", str(model), "--num-samples", str(NUM_CINES), "--out", str(folder), "--seed", "1"]
    arguments = build_parser().parse_args(["generate", *flags, "--format", ",".join(FORMATS)])
    assert generate(arguments, shard_size=SHARD_SIZE) == (NUM_CINES, True)


@pytest.fixture(scope="module")
def undisturbed(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "set"
    make_all(model, folder)
    return folder


@pytest.fixture
def start(model, tmp_path):
    """Starts the script on `tmp_path / "set"`; its output lies in `tmp_path / <name>`."""
    processes = []

    def start_one(name: str, *options: object, launch=()) -> subprocess.Popen:
        script = str(ROOT / "training_scripts" / "generate_dataset.py")
        arguments = ["--model", model, "--num_samples", NUM_CINES, "--shard_size", SHARD_SIZE, "--seed", 1]
        arguments += ["--out", tmp_path / "set", "--format", ",".join(FORMATS), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
        environment["ACCELERATE_USE_CPU"] = "true"
        with (tmp_path / name).open("w") as output:
            command = [sys.executable, *launch, script, *map(str, arguments)]
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        process.kill()
        process.wait()


def worker(number: int) -> tuple[object, ...]:
    return "--worker", number, "--num_workers", 2


def finished(folder: Path) -> set[str]:
    return {path.stem for path in (folder / ".shards").glob("train-*-of-00008.json")}


def wait_until(condition, process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None, f"the process ended with {process.returncode}"
        time.sleep(0.01)


def kill_within_a_shard(process: subprocess.Popen, folder: Path) -> None:
    """Kills a process that has written some files of a shard; it is stopped while we look."""
    while True:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if len(list(folder.glob("cine_*.npz"))) > SHARD_SIZE * len(finished(folder)):
            break
        process.send_signal(signal.SIGCONT)
        assert process.poll() is None, "the process ended before it could be killed"
        time.sleep(0.002)
    process.kill()
    process.wait()


def test_two_processes_share_the_work_and_write_the_bytes_of_one(start, undisturbed, tmp_path, digests):
    processes = [start(f"{number}", *worker(number)) for number in (0, 1)]
    assert [process.wait() for process in processes] == [0, 0]
    for number in (0, 1):
        assert "8 of 8 cines (100.0%)" in (tmp_path / f"{number}").read_text()
    assert digests(tmp_path / "set") == digests(undisturbed)


def test_accelerate_divides_the_work_and_waits(start, undisturbed, tmp_path, digests):
    process = start("both", launch=("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"))
    assert process.wait() == 0, (tmp_path / "both").read_text()
    assert (tmp_path / "both").read_text().count("8 of 8 cines (100.0%)") == 2
    assert digests(tmp_path / "set") == digests(undisturbed)


def test_terminated_and_killed_processes_change_nothing(start, model, undisturbed, tmp_path, digests):
    folder = tmp_path / "set"
    process = start("terminated")
    wait_until(lambda: finished(folder), process)
    process.send_signal(signal.SIGSTOP)
    assert start("second").wait() == 1
    assert "error: another run (worker 0) is active in" in (tmp_path / "second").read_text()
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert "terminated; run the same command again to resume" in (tmp_path / "terminated").read_text()
    assert not list(folder.rglob(".*.partial*"))

    before = finished(folder)
    process = start("killed")
    wait_until(lambda: len(finished(folder)) > len(before), process)
    kill_within_a_shard(process, folder)
    assert len(finished(folder)) < NUM_CINES / SHARD_SIZE

    make_all(model, folder)
    assert digests(folder) == digests(undisturbed)


@pytest.mark.slow
def test_kills_at_any_moment_change_nothing(start, undisturbed, tmp_path, digests):
    """Two processes each time: the first has begun its work, the second may be anywhere."""
    moments = random.Random(0)
    for attempt in range(5):
        processes = [start(f"{attempt}-{number}", *worker(number)) for number in (0, 1)]
        known = finished(tmp_path / "set")
        wait_until(lambda known=known: finished(tmp_path / "set") > known, processes[0])
        time.sleep(moments.uniform(0.0, 0.3))
        for process in processes:
            process.kill()
            process.wait()
    assert [process.wait() for process in (start("last-0", *worker(0)), start("last-1", *worker(1)))] == [0, 0]
    assert digests(tmp_path / "set") == digests(undisturbed)
