"""The hidden folder in which a cohort grows: one run at a time, one plan, removed when the data set is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cpgg_hf.dataset import DESCRIPTION_FILE
from cpgg_hf.errors import InputError, OutputError
from cpgg_hf.files.staging import staged_file
from cpgg_hf.preparation.cohorts.plan import Plan, difference

WORK_FOLDER = ".cohort"
_PLAN_FILE = "plan.json"
_LOCK_FILE = "lock"


def check_out(out: Path) -> None:
    """Refuse a folder that holds anything but a cohort, before anything is made.

    Raises:
        OutputError: `out` is a file, or has other content.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give a folder.")
    ours = (out / WORK_FOLDER).is_dir() or (out / DESCRIPTION_FILE).is_file()
    if out.is_dir() and any(out.iterdir()) and not ours:
        raise OutputError(f"{out} exists and is not empty; give a new folder, or delete it first.")


@contextmanager
def work_folder(out: Path, plan: Plan) -> Iterator[Path]:
    """The work folder of a plan inside `out`: new, or as a killed run left it; the caller removes it at the end.

    Raises:
        OutputError: it cannot be made, or another run is at work in it.
        InputError: what is there was made by another plan.
    """
    work = out / WORK_FOLDER
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {out} cannot be written ({error.strerror}); give another one.") from None
    with (work / _LOCK_FILE).open("w") as lock:
        _lock(lock, out)
        _keep_plan(work / _PLAN_FILE, plan, out)
        yield work


def _lock(file: IO[str], out: Path) -> None:
    """Held until the process ends, however it ends. Where a file system knows no locks, nothing is held."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(
            f"another run is preparing {out} right now; wait for its end, or give another folder."
        ) from None
    except OSError:
        return


def _keep_plan(path: Path, plan: Plan, out: Path) -> None:
    if path.is_file():
        different = difference(json.loads(path.read_text(encoding="utf-8")), plan.content())
        if different:
            raise InputError(
                f"{out} holds the beginning of another cohort: {different}; call it as before, or choose another "
                "folder."
            )
        return
    with staged_file(path) as partial:
        partial.write_text(json.dumps(plan.content()), encoding="utf-8")
