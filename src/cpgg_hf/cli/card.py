"""`cpgg card`: the card of a checkpoint."""

import argparse
from typing import Any

from cpgg_hf.cli.options import new_command


def add_command(commands: Any) -> None:
    """Add `card` to the commands."""
    text = "write the card of a checkpoint from its training record and measured results"
    command = new_command(commands, "card", _run, text)
    command.add_argument("folder", help="checkpoint or network")
    command.add_argument("--results", metavar="DIR", help="JSON files of benchmarks/checkpoint_quality.py")
    command.add_argument("--repository", metavar="OWNER/NAME", help="where it will be published")


def _run(arguments: argparse.Namespace) -> None:
    from cpgg_hf.release.model_card import write_model_card

    print(f"wrote {write_model_card(arguments.folder, arguments.results, arguments.repository)}")
