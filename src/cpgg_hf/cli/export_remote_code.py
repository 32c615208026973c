"""`cpgg export-remote-code`: the code in Hub repositories that load without this package."""

import argparse
from pathlib import Path
from typing import Any

from cpgg_hf.cli.options import new_command
from cpgg_hf.errors import RequestError


def add_command(commands: Any) -> None:
    """Add `export-remote-code` to the commands."""
    text = "write the code for Hub repositories that load without this package"
    command = new_command(commands, "export-remote-code", _run, text)
    command.add_argument("--out", default="pipelines", help="folder to write (default: %(default)s)")
    command.add_argument("--check", action="store_true", help="compare only; fail if a file is out of date")


def _run(arguments: argparse.Namespace) -> None:
    from cpgg_hf.release.remote_code import changed_remote_code, export_remote_code

    out = Path(arguments.out)
    if not arguments.check:
        for path in export_remote_code(out):
            print(f"wrote {path}")
    elif changed := changed_remote_code(out):
        raise RequestError(f"{', '.join(changed)} in {out} are out of date; run `cpgg export-remote-code`.")
    else:
        print(f"{out} is up to date")
