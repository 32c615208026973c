"""Processes on one folder: both work, and kills at any moment change nothing of what is there in the end."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cpgg_hf.commands.generated_dataset import generate_parquet
from cpgg_hf.generation.claims import Claims

ROOT = Path(__file__).parents[2]
NUM_CINES, SHARD_SIZE = 32, 2
SHARDS = [f"train-{shard:05d}-of-00016.parquet" for shard in range(16)]


@pytest.fixture(scope="module")
def undisturbed(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "set"
    generate_parquet(str(model), None, [], NUM_CINES, str(folder), shard_size=SHARD_SIZE, seed=1)
    return folder


@pytest.fixture
def start(model, tmp_path):
    """Starts the script on `tmp_path / "set"`; its output lies in `tmp_path / <name>`."""
    processes = []

    def start_one(name: str) -> subprocess.Popen:
        script = str(ROOT / "training_scripts" / "generate_dataset.py")
        arguments = ["--model", str(model), "--num_samples", str(NUM_CINES), "--shard_size", str(SHARD_SIZE)]
        arguments += ["--seed", "1", "--out", str(tmp_path / "set")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
        with (tmp_path / name).open("w") as output:
            command = [sys.executable, script, *arguments]
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        process.kill()
        process.wait()


def finished(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("train-*.parquet"))


def wait_until(condition, process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None, f"the process ended with {process.returncode}"
        time.sleep(0.01)


def kill_within_a_shard(process: subprocess.Popen, folder: Path) -> None:
    """Kills a process that holds a shard unfinished: it is stopped for each look, as it moves on in between."""
    while True:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        held = {path.stem for path in (folder / ".claims").glob("train-*")}
        if held - set(finished(folder)):
            break
        process.send_signal(signal.SIGCONT)
        assert process.poll() is None, "the process ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.wait()


def test_two_processes_share_the_work_and_write_the_bytes_of_one(start, undisturbed, tmp_path, digests):
    # They begin together: until both have loaded the model, all shards are held here.
    claims = Claims(tmp_path / "set" / ".claims")
    held = [claims.take([name]) for name in SHARDS]
    processes = {name: start(name) for name in ("first", "second")}
    for name, process in processes.items():
        wait_until(lambda name=name: "0 of 32 cines" in (tmp_path / name).read_text(), process)
    for claim in held:
        claim.path.unlink()
    assert [process.wait() for process in processes.values()] == [0, 0]
    lines = {name: (tmp_path / name).read_text().splitlines() for name in processes}
    made = {name: {shard for shard in SHARDS for line in lines[name] if f"{shard} finished" in line} for name in lines}
    assert made["first"]
    assert made["second"]
    assert made["first"] | made["second"] == set(SHARDS)
    assert any("32 of 32 cines (100.0%)" in line for line in (*lines["first"], *lines["second"]))
    assert digests(tmp_path / "set") == digests(undisturbed)


def test_a_process_that_is_terminated_and_one_that_is_killed_change_nothing(
    start, model, undisturbed, tmp_path, digests
):
    folder = tmp_path / "set"
    process = start("terminated")
    wait_until(lambda: finished(folder), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert "terminated; the same command goes on" in (tmp_path / "terminated").read_text()
    assert {path.name for path in folder.iterdir()} == {"generation.json", ".claims", *finished(folder)}

    before = finished(folder)
    process = start("killed")
    wait_until(lambda: len(finished(folder)) > len(before), process)
    kill_within_a_shard(process, folder)
    assert len(finished(folder)) < len(SHARDS)

    generate_parquet(str(model), None, [], NUM_CINES, str(folder), shard_size=SHARD_SIZE, seed=1)
    assert digests(folder) == digests(undisturbed)


@pytest.mark.slow
def test_kills_at_any_moment_change_nothing(start, undisturbed, tmp_path, digests):
    """Two processes each time: the first has begun its work, the second may be anywhere."""
    moments = random.Random(0)
    for attempt in range(5):
        processes = [start(f"{attempt}-{which}") for which in ("first", "second")]
        wait_until(lambda attempt=attempt: "cines (" in (tmp_path / f"{attempt}-first").read_text(), processes[0])
        time.sleep(moments.uniform(0.0, 1.5))
        for process in processes:
            process.kill()
            process.wait()
    assert [process.wait() for process in (start("last-first"), start("last-second"))] == [0, 0]
    assert digests(tmp_path / "set") == digests(undisturbed)
