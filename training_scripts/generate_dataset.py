"""Generate a data set of cines, or files, in any number of processes on one shared folder.

accelerate launch training_scripts/generate_dataset.py --num_samples 10000 --where "LVEF < 40" --out data/failing
ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 training_scripts/generate_dataset.py ...  # two CPU processes
python training_scripts/generate_dataset.py --worker $SLURM_ARRAY_TASK_ID --num_workers 16 ...  # a job array

Each process makes its own share of the shards; re-run the command to resume. The bytes of a cine depend on the seed
and its index, on the same kind of processor, GPU, threads and library versions.
"""

import argparse
import sys
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from cpgg_hf.cli.generate import generate
from cpgg_hf.cli.options import SPLITS, assignment
from cpgg_hf.data_policy import DATA_POLICIES
from cpgg_hf.models.settings import GenerationSettings
from cpgg_hf.release.script_options import add_push_options, push_result


def main() -> int:
    """Generate this process's share; the main process describes the whole and pushes it. Returns 1 after an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint folder or hub repository (default: the repository's own)")
    parser.add_argument("--out", required=True, help="folder to write; re-run the command to resume")
    parser.add_argument("--format", default="parquet", metavar="FORMAT[,FORMAT]", help="as of `cpgg generate`")
    parser.add_argument("--num_samples", type=int, default=1, help="cines per row of --phenotypes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", default=SPLITS[0], choices=SPLITS)
    request = parser.add_mutually_exclusive_group()
    request.add_argument("--phenotypes", metavar="FILE", help="CSV table, one row per heart; empty cells are drawn")
    request.add_argument("--set", action="append", default=[], type=assignment, metavar="NAME=VALUE")
    parser.add_argument("--where", action="append", default=[], metavar="CONDITION", help="as 'LVEF < 40'; repeatable")
    parser.add_argument("--verify", action="store_true", help="store measured next to requested phenotypes")
    parser.add_argument("--max_error", action="append", default=[], type=assignment, metavar="NAME=VALUE")
    parser.add_argument("--max_attempts", type=int, default=5, help="cines drawn until the errors are small enough")
    parser.add_argument("--segmenter", help="folder of the segmenter that measures (default: the checkpoint's)")
    parser.add_argument(
        "--shard_size", type=int, default=100, help="cines per shard; a killed process loses one shard"
    )
    parser.add_argument(
        "--batch_size", type=int, default=8, help="cines in memory at once; does not affect the output"
    )
    parser.add_argument("--micro_batch_size", type=int, help="cines per pass of the MAR (default: the model's)")
    text = "stricter than the model's own (default: the model's)"
    parser.add_argument("--data_policy", choices=DATA_POLICIES, help=text)
    for one in fields(GenerationSettings):
        text = f"{one.metadata['help']} (default: the model's)"
        parser.add_argument(f"--{one.name}", type=one.metadata["type"], help=text)
    parser.add_argument(
        "--worker", type=int, help="of a job array: which job this is, from 0 (default: from accelerate)"
    )
    parser.add_argument("--num_workers", type=int, help="of a job array: how many jobs there are")
    add_push_options(parser)
    given = parser.parse_args()
    if (given.worker is None) != (given.num_workers is None):
        parser.error("give --worker and --num_workers together")
    arguments = {name: value for name, value in vars(given).items() if not name.startswith(("push_", "hub_"))}
    model, phenotypes, assignments = (arguments.pop(name) for name in ("model", "phenotypes", "set"))
    arguments["formats"] = arguments.pop("format").split(",")

    # Shares end at different times, after a resumption hours apart: far beyond the usual limit.
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    state = PartialState(cpu=cpu, timeout=timedelta(weeks=4))
    if given.worker is None:
        arguments |= {"worker": state.process_index, "num_workers": state.num_processes}
        arguments["wait"] = state.wait_for_everyone
    try:
        _, complete = generate(model, phenotypes, assignments, **arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return push_result(given, Path(given.out), "dataset") if complete else 0


if __name__ == "__main__":
    sys.exit(main())
