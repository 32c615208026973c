"""Cines per second that a training gets from `CineStream`: `python benchmarks/streaming_speed.py --cines FILE.npy`.

An epoch of 1,000 cines in batches of 32 tensors, shuffled: from parquet shards on disk (in the page cache), and over
HTTP from a hub on loopback in a process of its own; beside it `load_cines(streaming=True)`, plain `datasets`. The wall
clock says what the loop saw on this machine, whatever else ran there; the processor time of all threads, shared by
two, what two free cores would have needed. The share of every step is measured alone, in one thread.
FILE.npy holds generated cines, as `cine_encoding.py` makes and keeps them.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

NUM_CINES = 1000
BATCH_SIZE = 32
EPOCHS = 3
SHAPE = (50, 96, 96)
_HUB = """
import sys
from hub_server import HubServer
hub = HubServer(sys.argv[1])
print(hub.url, flush=True)
hub.httpd.serve_forever()
"""


def write_data(folder: Path, cines: np.ndarray) -> None:
    """1,000 cines in four shards: those given, again and again."""
    from cpgg_hf.cine import Cine
    from cpgg_hf.dataset import CineWriter, write_description

    with CineWriter(folder, "train") as writer:
        for index in range(NUM_CINES):
            writer.add(
                Cine(
                    pixels=cines[index % len(cines)],
                    frame_time_ms=20.0,
                    subject=f"subject-{index}",
                    source="benchmark",
                    data_policy="phantom",
                    phenotypes=np.full(82, float(index)),
                )
            )
    write_description(folder)


def measure(batches: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Rates of the best of three epochs, by either clock."""
    walls, processors = [], []
    for _ in range(EPOCHS):
        wall, processor = time.perf_counter(), time.process_time()
        count = sum(len(batch["cine"]) for batch in batches)
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
        assert count == NUM_CINES
    return {
        "cines_per_second_wall": round(NUM_CINES / min(walls)),
        "cines_per_second_two_free_cores": round(2 * NUM_CINES / min(processors)),
    }


def share_by_step(folder: Path) -> dict[str, float]:
    """Percent of the processor time by step: a stream's work, one step after another, in stored order."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch

    from cpgg_hf.dataset.rows import decode_cine_into

    seconds = dict.fromkeys(("read files", "unpack zstd and parquet", "sum frames into batches"), 0.0)

    def timed(step: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = work()
        seconds[step] += time.process_time() - start
        return result

    def fill_batch(encoded: np.ndarray) -> torch.Tensor:
        cines = np.empty_like(encoded)
        for cine, differences in zip(cines, encoded, strict=True):
            decode_cine_into(cine, differences)
        return torch.from_numpy(cines)

    for path in sorted(folder.glob("*.parquet")):
        content = timed("read files", path.read_bytes)
        shard = pq.ParquetFile(pa.BufferReader(content))
        for group in range(shard.num_row_groups):
            table = timed(
                "unpack zstd and parquet",
                lambda shard=shard, group=group: shard.read_row_group(
                    group, ["cine", "phenotypes"], use_threads=False
                ),
            )
            encoded = np.frombuffer(table["cine"].combine_chunks().buffers()[2], np.uint8).reshape(-1, *SHAPE)
            timed("sum frames into batches", lambda encoded=encoded: fill_batch(encoded))
    return {step: round(100 * value / sum(seconds.values()), 1) for step, value in seconds.items()}


def main() -> None:
    """Measures the three ways and writes the results beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cines", type=Path, required=True, help="(N, 50, 96, 96) uint8")
    cines = np.load(parser.parse_args().cines)
    tests = Path(__file__).parent.parent / "tests"
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-c", _HUB, f"{scratch}/hub"]
        with subprocess.Popen(command, cwd=tests, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                os.environ |= {"HF_ENDPOINT": server.stdout.readline().strip(), "HF_TOKEN": "hf_test"}
                os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
                result = _measure_all(Path(scratch) / "data", cines)
            finally:
                server.terminate()
    path = Path(__file__).parent / "results" / "streaming_speed.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def _measure_all(folder: Path, cines: np.ndarray) -> dict[str, Any]:
    import datasets
    import pyarrow
    import torch
    from huggingface_hub import HfApi

    from cpgg_hf.dataset import load_cines
    from cpgg_hf.dataset.stream import CineStream

    torch.set_num_threads(1)
    write_data(folder, cines)
    HfApi().create_repo("user/benchmark", repo_type="dataset")
    HfApi().upload_folder(repo_id="user/benchmark", folder_path=folder, repo_type="dataset")
    return {
        "num_cines": NUM_CINES,
        "batch_size": BATCH_SIZE,
        "bytes_per_cine": round(sum(path.stat().st_size for path in folder.glob("*.parquet")) / NUM_CINES),
        "CineStream, folder": measure(CineStream(folder, batch_size=BATCH_SIZE)),
        "CineStream, hub": measure(CineStream("user/benchmark", batch_size=BATCH_SIZE)),
        "load_cines(streaming=True), folder, stored order": measure(_Batches(load_cines(folder, streaming=True))),
        "percent_of_processor_time": share_by_step(folder),
        "load_average": round(os.getloadavg()[0], 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, pyarrow {pyarrow.__version__}, "
        f"datasets {datasets.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }


class _Batches:
    """A plain stream's rows as batches of tensors."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        import torch

        for batch in self.rows.iter(BATCH_SIZE):
            yield {name: torch.from_numpy(np.stack(batch[name])) for name in ("cine", "phenotypes")}


if __name__ == "__main__":
    main()
