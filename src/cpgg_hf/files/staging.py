"""Results that appear complete or not at all: they are written to a temporary path and moved at the end."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cpgg_hf.errors import OutputError

_FULL = (errno.ENOSPC, errno.EDQUOT)


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
    check_new(out, overwrite)
    # An existing folder may be another disk's, or the working folder.
    place = out if out.is_dir() else out.parent
    with created_folder(place), _partial_folder(place, out.name) as partial:
        yield partial
        if out.is_dir():
            for path in sorted(partial.iterdir()):
                path.replace(out / path.name)
        else:
            partial.replace(out)


def check_new(out: Path, overwrite: bool = False) -> None:
    """Whether `staged_folder` accepts a folder, for work that takes long before it writes.

    Raises:
        OutputError: `out` is a file, or has content that may not be overwritten.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give a folder.")
    if out.is_dir():
        _clear(out, out.name)  # what a killed process left must not refuse the same command
    if not overwrite and out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out} exists and is not empty; give a new folder, or delete it first.")


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
    with created_folder(out.parent), _partial_folder(out.parent, out.name) as partial:
        yield partial / out.name
        (partial / out.name).replace(out)


@contextmanager
def _partial_folder(place: Path, name: str) -> Iterator[Path]:
    """A temporary folder for `name`, removed at the end; those that killed processes left are removed first.

    Its random name differs from those of other processes (their ids repeat between containers), and a lock on it tells
    them that its process lives.
    """
    _clear(place, name)
    while True:
        partial = place / f".{secrets.token_hex(8)}.partial.{name}"
        try:
            partial.mkdir()
            descriptor = _lock(partial, wait=True)
        except FileNotFoundError:  # cleared by another process before it had its lock
            continue
        except OSError as error:
            if error.errno in _FULL:
                raise
            raise _unwritable(place, error) from error
        if partial.is_dir():
            break
        os.close(descriptor)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(descriptor)


def _clear(place: Path, name: str) -> None:
    """Remove the temporary folders for `name` whose processes are gone."""
    for left in os.listdir(place):  # noqa: PTH208 - a folder may hold many files, and this is called for each
        if left.startswith(".") and left.endswith(f".partial.{name}"):
            with suppress(OSError):
                descriptor = _lock(place / left, wait=False)
                shutil.rmtree(place / left, ignore_errors=True)
                os.close(descriptor)


def _lock(folder: Path, wait: bool) -> int:
    """A descriptor that locks a folder until it is closed or the process ends.

    Raises:
        OSError: there is no such folder, or another process holds the lock and `wait` is False.
    """
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        if not wait:
            os.close(descriptor)
            raise  # held, or a file system without locks, where nothing tells the living from the dead
    return descriptor


@contextmanager
def disk_full_as_error(out: str | os.PathLike[str]) -> Iterator[None]:
    """Raise OutputError if the disk is full, for resumable work on `out`.

    Raises:
        OutputError: the disk, or the user's share of it, is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OutputError(
            f"the disk of {out} is full; free some space and give the same command again to resume."
        ) from error


@contextmanager
def created_folder(folder: Path) -> Iterator[None]:
    """Create a folder with its parents; if the block fails, remove those that were created and are empty.

    Raises:
        OutputError: it cannot be created.
    """
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
