"""Output of the commands: JSON on stdout for scripts, notes on stderr for people."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from cpgg_hf.errors import printable


def print_json(content: Any) -> None:
    """Print plain values to stdout."""
    print(json.dumps(content, indent=2))


def print_notes(warnings: Sequence[str]) -> None:
    """Print `warnings` to stderr, one per line."""
    for warning in warnings:
        print(f"note: {printable(warning)}", file=sys.stderr)
