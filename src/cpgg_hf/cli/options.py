"""Options that several commands share, with one name and one help text each."""

import argparse
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from cpgg_hf.errors import brief
from cpgg_hf.models.settings import GenerationSettings

SPLITS = ("train", "validation", "test")


def new_command(
    parent: Any, name: str, run: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    """Add a command to `parent` (of `add_subparsers`); `run` runs it, `text` is its one-line help."""
    command: argparse.ArgumentParser = parent.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.add_argument("--quiet", action="store_true", help="no progress or notes")
    return command


def add_model(command: argparse.ArgumentParser) -> None:
    """`--model`; None is the default checkpoint, see `cpgg_hf.cli.models.checkpoint_path`."""
    text = "folder or Hub repository (default: CPGG_MODEL, or checkpoints/cpgg-phantom-small)"
    command.add_argument("--model", help=text)


def add_segmenter(command: argparse.ArgumentParser, otherwise: str = "") -> None:
    """`--segmenter`; None is the one in the default checkpoint. `otherwise` describes other values in the help."""
    text = f"folder of the segmenter (default: the default checkpoint's){otherwise}"
    command.add_argument("--segmenter", help=text)


def add_device(command: argparse.ArgumentParser) -> None:
    """`--device`; None is the accelerator, or the CPU if there is none."""
    text = "cpu, cuda, cuda:1, mps or xpu (default: the accelerator if there is one)"
    command.add_argument("--device", type=_device, help=text)


def add_dtype(command: argparse.ArgumentParser) -> None:
    """`--dtype` of the networks that generate cines."""
    types = ("float32", "bfloat16", "float16")
    text = f"number type of MAR and 3D-VAE: {', '.join(types)}"
    command.add_argument("--dtype", choices=types, default=types[0], metavar="TYPE", help=text)


def add_request(command: argparse.ArgumentParser) -> None:
    """`--model`, the requested phenotypes, `--num-samples` and `--seed`."""
    add_model(command)
    request = command.add_mutually_exclusive_group()
    text = "CSV table (a row per heart) or JSON of one heart"
    request.add_argument("--phenotypes", metavar="FILE", help=text)
    text = "set a phenotype; repeatable"
    request.add_argument("--set", action="append", default=[], type=assignment, metavar="NAME=VALUE", help=text)
    command.add_argument("--num-samples", type=positive, default=1, help="hearts per row of the request")
    add_seed(command)


def add_settings(command: argparse.ArgumentParser) -> None:
    """The settings of the pipeline's call, None unless given; `settings_of` reads them."""
    for one in fields(GenerationSettings):
        text = f"{one.metadata['help']} (default: the model's)"
        command.add_argument(f"--{one.name.replace('_', '-')}", type=one.metadata["type"], help=text)


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_settings` by name."""
    return {one.name: getattr(arguments, one.name) for one in fields(GenerationSettings)}


def add_reading(command: argparse.ArgumentParser, segmenters: str = "") -> None:
    """How one scan is read and its heart located; `reading_of` reads these options."""
    add_view(command)
    add_segmenter(command, segmenters)
    text = "NIfTI file of labels (1 LV, 2 LV myocardium, 3 RV, 4 LA, 5 RA), used instead of the segmenter"
    command.add_argument("--mask", help=text)
    text = "RR interval (ms) if the files do not state it"
    command.add_argument("--rr-ms", type=float, help=text)
    text = "which cine of several in a DICOM folder; the error for several cines lists their names"
    command.add_argument("--series", metavar="NAME", help=text)


def reading_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_reading` by name."""
    return {name: getattr(arguments, name) for name in ("view", "segmenter", "mask", "rr_ms", "series")}


def add_view(command: argparse.ArgumentParser) -> None:
    """`--view`: "4ch" or "any"."""
    text = "4ch refuses planes that look like another view (default: %(default)s)"
    command.add_argument("--view", choices=("4ch", "any"), default="4ch", help=text)


def add_seed(command: argparse.ArgumentParser) -> None:
    """`--seed`, 0 unless given."""
    command.add_argument("--seed", type=_seed, default=0, help="the same seed gives the same result")


def add_split(command: argparse._ActionsContainer, text: str, flag: str = "--split") -> None:
    """`--split`, or another flag that names a split of a data set; None unless given."""
    command.add_argument(flag, choices=SPLITS, metavar="SPLIT", help=text)


def add_json(command: argparse.ArgumentParser, content: str) -> None:
    """`--json`, for scripts; `content` names what is printed in the help text."""
    command.add_argument("--json", action="store_true", help=f"print the {content} as JSON")


def assignment(text: str) -> tuple[str, float]:
    """`LVEF=30` as ("LVEF", 30.0)."""
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE with a number, such as LVEF=30") from None


def positive(text: str) -> int:
    """A whole number from 1 to 2^31 - 1."""
    return _whole_number(text, 1, 31)


def _seed(text: str) -> int:
    return _whole_number(text, 0, 63)


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|(cuda|mps|xpu)(:[0-9]{1,3})?", text):
        raise argparse.ArgumentTypeError(f"unknown device {brief(text)!r}; expected cpu, cuda, cuda:1, mps or xpu")
    return text


def _whole_number(text: str, minimum: int, bits: int) -> int:
    if not re.fullmatch(r"[0-9]{1,20}", text) or not minimum <= int(text) < 2**bits:
        raise argparse.ArgumentTypeError(f"{brief(text)!r} is not a whole number from {minimum} to 2^{bits} - 1")
    return int(text)
