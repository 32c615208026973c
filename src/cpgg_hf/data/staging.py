"""Results that appear whole or not at all: they are written beside their place and moved there at the end."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cpgg_hf.data.errors import OutputError


@contextmanager
def staged_folder(out: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Gives a temporary folder that becomes `out` when the block ends well, and vanishes when it does not.

    Args:
        out: the folder; created with its parents.
        overwrite: whether `out` may have content. Files of the same names are replaced then, others stay.

    Raises:
        OutputError: `out` is a file, cannot be created, or has content that may not be overwritten.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give a folder.")
    if not overwrite and out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out} exists and is not empty; give a new folder, or delete it first.")
    created = [parent for parent in out.absolute().parents if not parent.exists()]  # innermost first
    # A folder that exists may lie on a disk of its own, or be the one that the user is in.
    partial = (out if out.is_dir() else out.parent) / f".{os.getpid()}.partial"
    try:
        try:
            partial.mkdir(parents=True)
        except OSError as error:
            raise OutputError(f"the folder {out} cannot be written ({error.strerror}); give another one.") from error
        yield partial
        if out.is_dir():
            for path in sorted(partial.iterdir()):
                path.replace(out / path.name)
            partial.rmdir()
        else:
            partial.replace(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        for folder in created:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise


@contextmanager
def staged_file(out: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path that becomes the file `out` when the block ends well, and vanishes when it does not.

    It ends as `out` does, for writers that choose a format by that.

    Raises:
        OutputError: `out` is a folder, or its folder does not exist.
    """
    out = Path(out)
    if out.is_dir():
        raise OutputError(f"{out} is a folder; give a file.")
    if not out.parent.is_dir():
        raise OutputError(f"there is no folder {out.parent}; create it first.")
    partial = out.with_name(f".{os.getpid()}.partial.{out.name}")
    try:
        yield partial
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
