"""Generate a data set of cines (parquet); any number of processes and nodes may work on one folder at the same time.

accelerate launch training_scripts/generate_dataset.py --num_samples 10000 --where "LVEF < 40" --out data/failing
ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 training_scripts/generate_dataset.py ...  # two CPU processes

Each process takes shards that nobody else makes; started again after an interruption, it makes what is missing. The
bytes of a cine depend on the seed and its index, on the same kind of processor, GPU, threads and library versions.
"""

import argparse
import os
import sys
from pathlib import Path

import torch

from cpgg_hf.cli.requests import assignment
from cpgg_hf.commands.generated_dataset import generate_parquet
from cpgg_hf.release.script_options import add_push_options, push_result


def main() -> int:
    """Generates this process's share of the set; 0 when the whole set is there, 1 after an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint folder or hub repository (default: the repository's own)")
    parser.add_argument("--out", required=True, help="folder of the data set; one begun alike is continued")
    parser.add_argument("--num_samples", type=int, default=1, help="cines, for each row of --phenotypes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", default="train", choices=("train", "validation", "test"))
    request = parser.add_mutually_exclusive_group()
    request.add_argument("--phenotypes", metavar="FILE", help="CSV table, one row a heart; empty cells are drawn")
    request.add_argument("--set", action="append", default=[], type=assignment, metavar="NAME=VALUE")
    parser.add_argument("--where", action="append", default=[], metavar="CONDITION", help="as 'LVEF < 40'; repeatable")
    parser.add_argument("--verify", action="store_true", help="measure each cine; the column `measured` keeps it")
    parser.add_argument("--max_error", action="append", default=[], type=assignment, metavar="NAME=VALUE")
    parser.add_argument("--max_attempts", type=int, default=5, help="cines drawn until the errors are small enough")
    parser.add_argument("--segmenter", help="folder of the measure's network (default: the checkpoint's)")
    parser.add_argument("--shard_size", type=int, default=100, help="cines a shard; a killed process loses one shard")
    parser.add_argument("--batch_size", type=int, default=8, help="cines in memory at once; changes no byte")
    parser.add_argument("--micro_batch_size", type=int, help="cines the MAR works on at once (default: the model's)")
    policies = ("phantom", "public", "restricted")
    parser.add_argument("--data_policy", choices=policies, help="stricter than the model's own (default: the model's)")
    for name in ("guidance_scale", "temperature"):
        parser.add_argument(f"--{name}", type=float, help="default: the model's")
    for name in ("num_decoding_steps", "num_inference_steps"):
        parser.add_argument(f"--{name}", type=int, help="default: the model's")
    add_push_options(parser)
    given = parser.parse_args()
    arguments = {name: value for name, value in vars(given).items() if not name.startswith(("push_", "hub_"))}

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    try:
        generate_parquet(arguments.pop("model"), arguments.pop("phenotypes"), arguments.pop("set"), **arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return push_result(given, Path(given.out), "dataset")


if __name__ == "__main__":
    sys.exit(main())
