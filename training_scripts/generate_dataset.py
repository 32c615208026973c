"""Generate a data set of cines, or files, in any number of processes on one shared folder.

accelerate launch training_scripts/generate_dataset.py --num_samples 10000 --where "LVEF < 40" --out data/failing
ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 training_scripts/generate_dataset.py ...  # two CPU processes
python training_scripts/generate_dataset.py --worker $SLURM_ARRAY_TASK_ID --num_workers 16 ...  # a job array

Each process makes its own share of the shards; re-run the command to resume. The bytes of a cine depend on the seed
and its index, on the same kind of processor, GPU, threads and library versions.
"""

import argparse
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from cpgg_hf.cli.generate import add_generation, generate
from cpgg_hf.cli.main import exit_code
from push_options import add_push_options, push_result


class _Parser(argparse.ArgumentParser):
    """Spells the flags of `cpgg generate` as those of the other scripts: --num_samples."""

    def add_argument(self, *flags: str, **options: Any) -> argparse.Action:
        """As of argparse."""
        return super().add_argument(*(flag[:2] + flag[2:].replace("-", "_") for flag in flags), **options)


def main() -> int:
    """Generate this process's share; the main process describes the whole and pushes it. Returns 1 after an error."""
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_generation(parser, default_format="parquet")
    parser.add_argument("--max_attempts", type=int, default=5, help="cines drawn until the errors are small enough")
    parser.add_argument("--segmenter", help="folder of the segmenter that measures (default: the checkpoint's)")
    text = "cines per shard; a killed process loses one shard"
    parser.add_argument("--shard_size", type=int, default=100, help=text)
    parser.add_argument("--micro_batch_size", type=int, help="cines per pass of the MAR (default: the model's)")
    text = "of a job array: which job this is, from 0 (default: from accelerate)"
    parser.add_argument("--worker", type=int, help=text)
    parser.add_argument("--num_workers", type=int, help="of a job array: how many jobs there are")
    add_push_options(parser)
    given = parser.parse_args()
    if (given.worker is None) != (given.num_workers is None):
        parser.error("give --worker and --num_workers together")
    own = ("max_attempts", "segmenter", "shard_size", "micro_batch_size", "worker", "num_workers")
    options = {name: getattr(given, name) for name in own}

    # Shares end at different times, after a resumption hours apart: far beyond the usual limit.
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    state = PartialState(cpu=cpu, timeout=timedelta(weeks=4))
    if given.worker is None:
        options |= {"worker": state.process_index, "num_workers": state.num_processes}
        options["wait"] = state.wait_for_everyone
    try:
        _, complete = generate(given, **options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return push_result(given, Path(given.out), "dataset") if complete else 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
