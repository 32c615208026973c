"""A command, and the options that several commands have, under one name and with one help text."""

import argparse
from collections.abc import Callable
from typing import Any


def add_command(
    parent: Any, name: str, run: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    """A command of `parent` (from `add_subparsers`) that `run` carries out; `text` says in a line what it does."""
    command: argparse.ArgumentParser = parent.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command


def add_model(command: argparse.ArgumentParser) -> None:
    """`--model`; None is the checkpoint that the repository ships."""
    text = "checkpoint folder or hub repository (default: the one that the repository ships)"
    command.add_argument("--model", help=text)


def add_mask(command: argparse.ArgumentParser) -> None:
    """`--mask`, in place of the network that finds the heart."""
    text = "NIfTI file of labels (1 LV, 2 LV myocardium, 3 RV, 4 LA, 5 RA) that replaces the network"
    command.add_argument("--mask", help=text)


def add_view(command: argparse.ArgumentParser) -> None:
    """`--view`: "4ch" or "any"."""
    text = "4ch refuses planes that look like another view (default: %(default)s)"
    command.add_argument("--view", choices=("4ch", "any"), default="4ch", help=text)


def add_seed(command: argparse.ArgumentParser) -> None:
    """`--seed`, 0 unless given."""
    command.add_argument("--seed", type=_seed, default=0, help="the same seed gives the same result")


def add_split(command: argparse._ActionsContainer, text: str, flag: str = "--split") -> None:
    """`--split`, or another flag that names a split of a data set; None unless given."""
    command.add_argument(flag, choices=("train", "validation", "test"), help=text)


def add_json(command: argparse.ArgumentParser, what: str) -> None:
    """`--json`, for scripts; `what` names in the help text what is printed."""
    command.add_argument("--json", action="store_true", help=f"print the {what} as JSON")


def positive(text: str) -> int:
    """A whole number of at least 1; the type of counts."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^63 - 1")
    return int(text)
