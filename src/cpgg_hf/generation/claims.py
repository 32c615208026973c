"""Who works on what, on a folder that any number of processes and nodes share.

A claim is a file that its owner creates exclusively and touches every `HEARTBEAT_SECONDS`. One whose owner has died is
taken over by creating the next in line, `<name>.<number + 1>`, which one process alone can do; nothing is ever changed
or deleted that another may hold. An owner is dead when its process is gone from this machine or, on another machine,
when its claim was not touched for `PATIENCE_SECONDS` by the observer's own clock (those of nodes differ). An owner
that was only slow makes the same bytes a second time: a wrong verdict costs time, nothing else.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

HEARTBEAT_SECONDS = 15.0
PATIENCE_SECONDS = 120.0  # well above the minute that network file systems may keep a file's time


class Claim:
    """One claim that this process holds: a context manager that keeps it alive, and gives it up at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem
        self._made = 0
        self._ended = threading.Event()

    def advance(self, made: int) -> None:
        """Tells the others how many cines of a shard are made: a dot each, after the owner's name."""
        dots, self._made = "." * (made - self._made), made
        with suppress(OSError):  # given up, or a full disk: of that the shard itself will tell
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)  # never creates it again
            try:
                os.write(handle, dots.encode())
            finally:
                os.close(handle)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):
                os.utime(self.path)

    def __enter__(self) -> Claim:
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)
        self._ended.set()


class Claims:
    """All claims of a folder, which is created."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._owner = f"{_machine()} {os.getpid()}"
        self._last_touch: dict[str, tuple[int, float]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, names: Sequence[str]) -> Claim | None:
        """Claims the first of `names` that nobody holds, those whose owners died last; None if all are held."""
        numbers = self._numbers()
        for name in sorted(names, key=numbers.__contains__):
            number = numbers.get(name, -1)
            if number >= 0 and not self._abandoned(self.folder / f"{name}.{number}"):
                continue
            path = self.folder / f"{name}.{number + 1}"
            try:
                with path.open("x", encoding="utf-8") as file:
                    file.write(f"{self._owner}\n")
            except (FileExistsError, FileNotFoundError):
                continue
            except OSError:  # such as a full disk: a claim that names no owner would hold others up
                path.unlink(missing_ok=True)
                raise
            return Claim(path)
        return None

    def count_made(self, names: Sequence[str]) -> int:
        """How many cines of the unfinished shards `names` are made, by what their living owners tell."""
        latest = (self.folder / f"{name}.{number}" for name, number in self._numbers().items() if name in names)
        made = 0
        for path in latest:
            with suppress(FileNotFoundError):
                if not self._abandoned(path):
                    made += path.read_text(encoding="utf-8").partition("\n")[2].count(".")
        return made

    def clear(self) -> None:
        """Removes all claims, when nothing is left to do."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _numbers(self) -> dict[str, int]:
        """The latest claim's number of each name that is, or was, held."""
        numbers: dict[str, int] = {}
        with suppress(FileNotFoundError):  # cleared by the process that finished the set
            for path in self.folder.glob("*.[0-9]*"):
                numbers[path.stem] = max(numbers.get(path.stem, 0), int(path.suffix[1:]))
        return numbers

    def _abandoned(self, path: Path) -> bool:
        try:
            owner, touched = path.read_text(encoding="utf-8").partition("\n")[0], path.stat().st_mtime_ns
        except FileNotFoundError:  # given up a moment ago
            return False
        match = re.fullmatch(re.escape(_machine()) + r" (\d+)", owner)
        if match and not _lives(int(match[1])):
            return True
        last, since = self._last_touch.setdefault(path.name, (touched, time.monotonic()))
        if touched != last:
            self._last_touch[path.name] = (touched, time.monotonic())
            return False
        return time.monotonic() - since > PATIENCE_SECONDS


def _machine() -> str:
    """Processes of the same one see each other by their ids: no two boots and no two containers share it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _lives(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
