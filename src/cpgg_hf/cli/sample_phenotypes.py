"""`cpgg sample-phenotypes`: a table of the phenotypes that `cpgg generate` would condition on."""

import argparse
from typing import Any

from cpgg_hf.cli.options import add_device, add_request, new_command


def add_command(commands: Any) -> None:
    """Add `sample-phenotypes` to the commands."""
    command = new_command(commands, "sample-phenotypes", _run, "draw phenotypes and write them as CSV")
    add_request(command)
    add_device(command)
    command.add_argument("--out", required=True, help="CSV file to write")


def _run(arguments: argparse.Namespace) -> None:
    from cpgg_hf.cli.models import load_pipeline
    from cpgg_hf.cli.requests import read_request
    from cpgg_hf.files.staging import staged_file
    from cpgg_hf.generation import GenerationRequest
    from cpgg_hf.phenotypes import write_csv

    request = GenerationRequest(read_request(arguments.phenotypes, arguments.set), arguments.num_samples)
    with staged_file(arguments.out) as path:
        pipe = load_pipeline(arguments.model, arguments.device)
        request.check_acceptance(pipe, arguments.seed, "train")
        write_csv(request.draw(pipe, arguments.seed, "train", range(len(request))), path)
    print(f"wrote {len(request)} rows to {arguments.out}")
