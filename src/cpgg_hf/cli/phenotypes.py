"""`cpgg phenotypes`: the 82 phenotypes."""

import argparse
from typing import Any

from cpgg_hf.cli.options import new_command
from cpgg_hf.phenotypes import PHENOTYPES


def add_command(commands: Any) -> None:
    """Add `phenotypes` to the commands."""
    new_command(commands, "phenotypes", _run, "list the 82 phenotypes with units and ranges")


def _run(_: argparse.Namespace) -> None:
    print(f"{'field':5s} {'name':18s} {'meaning':38s} {'unit':9s} {'plausible':>12s} in 4CH")
    for one in PHENOTYPES:
        limits, shown = f"{one.minimum:g} to {one.maximum:g}", "yes" if one.measurable else "no"
        print(f"{one.field_id:5d} {one.short_name:18s} {one.name:38s} {one.unit:9s} {limits:>12s} {shown}")
