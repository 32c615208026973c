"""The `cpgg` command line: carries out one command of the rooms in `cpgg_hf.command_line`.

Exit codes: 0 done, 1 failed (`error: ...` in one line on stderr; the traceback with `--debug`), 2 wrong usage.
"""

import argparse
import sys
import traceback
from collections.abc import Sequence

from cpgg_hf.errors import printable
from cpgg_hf.version import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code; wrong usage leaves by `SystemExit(2)`."""
    arguments = build_parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 1
    except Exception as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each one's `run` is the function that carries it out."""
    from cpgg_hf.cli import convert
    from cpgg_hf.command_line import evaluation, generation, preparation, publishing

    parser = argparse.ArgumentParser(prog="cpgg", description="Phenotype-controlled cardiac cine MRI (CPGG).")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # In the order in which --help lists them.
    generation.add_commands(commands)
    preparation.add_commands(commands)
    evaluation.add_commands(commands)
    publishing.add_commands(commands)
    convert.add_command(commands)
    return parser


def _one_line(error: Exception) -> str:
    text = printable(" ".join(str(error).split())) or type(error).__name__
    # An error that is not one of ours names its kind, as its text alone may say little (KeyError: 'x').
    if isinstance(error, ValueError | OSError | ImportError):
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"


if __name__ == "__main__":
    sys.exit(main())
