"""Results that appear complete or not at all: they are written to a temporary path and moved at the end."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cpgg_hf.errors import OutputError


@contextmanager
def staged_folder(out: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes `out` if the block succeeds, and is removed if it fails.

    Args:
        out: created with its parents.
        overwrite: `out` may have content; files of the same names are replaced, others stay.

    Raises:
        OutputError: `out` is a file, cannot be created, or has content that may not be overwritten.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give a folder.")
    if not overwrite and out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out} exists and is not empty; give a new folder, or delete it first.")
    # An existing folder may be another disk's, or the working folder.
    place = out if out.is_dir() else out.parent
    partial = place / f".{secrets.token_hex(8)}.partial.{out.name}"  # process ids repeat between containers
    with created_folder(place):
        try:
            try:
                partial.mkdir()
            except OSError as error:
                raise _unwritable(place, error) from error
            yield partial
            if out.is_dir():
                for path in sorted(partial.iterdir()):
                    path.replace(out / path.name)
                partial.rmdir()
            else:
                partial.replace(out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextmanager
def staged_file(out: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that becomes the file `out` if the block succeeds, and is removed if it fails.

    It has the ending of `out`, by which some writers choose a format. The folder of `out` is created with its parents.

    Raises:
        OutputError: `out` is a folder, or its folder cannot be created.
    """
    out = Path(out)
    if out.is_dir():
        raise OutputError(f"{out} is a folder; give a file.")
    partial = out.with_name(f".{secrets.token_hex(8)}.partial.{out.name}")
    with created_folder(out.parent):
        try:
            yield partial
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def disk_full_as_error(out: str | os.PathLike[str]) -> Iterator[None]:
    """Turn a full disk into one sentence, for work on `out` that the same command resumes.

    Raises:
        OutputError: the disk, or the user's share of it, is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OutputError(
            f"the disk of {out} is full; free some space and give the same command again to resume."
        ) from error


@contextmanager
def created_folder(folder: Path) -> Iterator[None]:
    """Create a folder with its parents; if the block fails, remove those that were created and are empty."""
    created = [one for one in (folder, *folder.absolute().parents) if not one.exists()]  # innermost first
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
        yield
    except BaseException:
        for one in created:
            if one.is_dir() and not any(one.iterdir()):
                one.rmdir()
        raise


def _unwritable(folder: Path, error: OSError) -> OutputError:
    return OutputError(f"the folder {folder} cannot be written ({error.strerror}); give another one.")
