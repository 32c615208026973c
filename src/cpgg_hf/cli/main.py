"""The `cpgg` command line.

Exit codes: 0 done, 1 failed (`error: ...` in one line on stderr; the traceback with `--debug`), 2 wrong usage.
"""

import argparse
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from importlib import import_module
from typing import Any

from cpgg_hf.cli.parsing import Parser
from cpgg_hf.cli.printing import print_notes
from cpgg_hf.errors import CPGGError, CPGGWarning, printable
from cpgg_hf.version import __version__

# In the order in which --help lists them. The module of each offers `add_command(commands)`.
COMMANDS = (
    "demo", "phenotypes", "sample_phenotypes", "generate", "prepare", "measure", "evaluate", "report", "push", "card",
    "convert", "export_remote_code",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; wrong usage exits by `SystemExit(2)`."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if any("\0" in str(value) for value in vars(arguments).values()):
        parser.error("an argument contains a NUL character, which no path may have; leave it out")
    return exit_code(lambda: _run(arguments), arguments.debug)


def exit_code(command: Callable[[], int | None], debug: bool | None = None) -> int:
    """Run a command or a script: what it returns or 0; 1 and one sentence after an error, Ctrl-C or SIGTERM.

    Args:
        command: to run.
        debug: whether an error shows its traceback; None for scripts, which have no --debug.
    """
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that temporary files are removed
    try:
        return command() or 0
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of the output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"error: {_one_line(error, hint='' if debug is None else ' (--debug shows where)')}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `run` in its result is the function that runs the command."""
    parser = Parser(prog="cpgg", description="Phenotype-controlled cardiac cine MRI (CPGG).")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        import_module(f"cpgg_hf.cli.{name}").add_command(commands)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    # Progress, notes and warnings go to stderr, results to stdout.
    with redirect_stderr(io.StringIO()) if arguments.quiet else nullcontext(), _warnings_as_notes():
        arguments.run(arguments)


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    with warnings.catch_warnings():
        show_others = warnings.showwarning

        def show(message: Any, category: Any, *place: Any, **options: Any) -> None:
            if issubclass(category, CPGGWarning):
                print_notes([str(message)])
            else:
                show_others(message, category, *place, **options)

        warnings.showwarning = show
        yield


def _one_line(error: Exception, hint: str) -> str:
    text = printable(" ".join(str(error).split())) or type(error).__name__
    # Other errors name their kind, as their text may mean little without it (KeyError: 'x').
    if isinstance(error, CPGGError | OSError | ImportError | ValueError):
        return text
    return f"{type(error).__name__}: {text}{hint}"


if __name__ == "__main__":
    sys.exit(main())
