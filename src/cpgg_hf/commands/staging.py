"""Results that appear whole or not at all: they are written beside their place and moved there at the end."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CommandError(ValueError):
    """A request that a command cannot carry out; the message is one sentence meant for the user."""


@contextmanager
def staged_folder(out: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Gives a temporary folder that becomes `out` when the block ends well, and vanishes when it does not.

    Args:
        out: the folder; created with its parents.
        overwrite: whether `out` may have content. Files of the same names are replaced then, others stay.

    Raises:
        CommandError: `out` is a file, or a folder with content that may not be overwritten.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise CommandError(f"{out} is a file; give --out a folder.")
    if not overwrite and out.is_dir() and any(out.iterdir()):
        raise CommandError(f"{out} exists and is not empty; give --out a new folder, or delete it first.")
    parents = [parent for parent in out.absolute().parents if not parent.exists()]
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        if out.is_dir() and overwrite:
            for path in sorted(partial.iterdir()):
                path.replace(out / path.name)
            partial.rmdir()
        else:
            partial.replace(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in parents:  # created here, innermost first
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise


@contextmanager
def staged_file(out: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path that becomes the file `out` when the block ends well, and vanishes when it does not.

    Raises:
        CommandError: `out` is a folder, or its folder does not exist.
    """
    out = Path(out)
    if out.is_dir():
        raise CommandError(f"{out} is a folder; give --out a file.")
    if not out.parent.is_dir():
        raise CommandError(f"there is no folder {out.parent}; create it first.")
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
