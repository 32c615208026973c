"""How fast a process generates a verified data set, and where time goes: `python benchmarks/generation_speed.py`.

One torch thread and the process's own time, so that other work on the machine does not count.
"""

import argparse
import json
import platform
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from cpgg_hf.cli.models import load_pipeline, load_segmenter
from cpgg_hf.generation import GenerationRequest, Verification, generate_dataset, outputs, parse_condition


def main() -> None:
    """Generates and measures hearts of LVEF < 40 with one checkpoint and writes the figures beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-samples", type=int, default=8)
    parser.add_argument("--model", help="checkpoint (default: the shipped one)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    pipe, verification = load_pipeline(arguments.model), Verification(load_segmenter(None, arguments.model))
    pipe.set_progress_bar_config(disable=True)
    pipe(num_samples=1)
    seconds: dict[str, float] = defaultdict(float)

    def timed(owner: Any, name: str, step: str) -> None:
        function = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[step] += time.process_time() - start

        setattr(owner, name, call)

    timed(pipe, "sample_phenotypes", "phenotypes")
    timed(pipe.mar, "generate_latents", "MAR")
    timed(pipe.vae, "decode", "decoder")
    timed(verification, "measure", "measuring")
    timed(outputs, "write_shard", "writing")
    request = GenerationRequest(None, arguments.num_samples, [parse_condition("LVEF < 40")])
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        generate_dataset(pipe, Path(folder) / "set", request, verification=verification, data_policy="phantom")
        total = time.process_time() - start
    seconds["all else (hash of the weights, plan)"] = total - sum(seconds.values())
    result = {
        "cines_per_second_and_core": round(arguments.num_samples / total, 4),
        "seconds_per_cine": {step: round(value / arguments.num_samples, 3) for step, value in seconds.items()},
        "share": {step: round(value / total, 3) for step, value in seconds.items()},
        "num_cines": arguments.num_samples,
        "request": "LVEF < 40, measured; phenotypes include the first look at how many draws meet it",
        "clock": "process time, one thread",
        "machine": f"{platform.machine()}, torch {torch.__version__}, Python {platform.python_version()}",
    }
    print(json.dumps(result, indent=2))
    path = Path(__file__).with_name("results") / "generation_speed.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
