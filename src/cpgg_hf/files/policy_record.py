"""`data_policy.json` in a folder: the data policy of its files, by name and SHA-256.

Whatever writes files records them. A file that no record lists, or that has changed since, counts as restricted.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cpgg_hf.data_policy import DATA_POLICIES, strictest
from cpgg_hf.files.checksum import checksum
from cpgg_hf.files.staging import staged_file

POLICY_FILE = "data_policy.json"

_SHA256 = re.compile(r"[0-9a-f]{64}")


def record_policy(
    folder: str | os.PathLike[str], policy: str | None, paths: Iterable[Path] | Mapping[Path, str]
) -> None:
    """Record the data policy of files in the folder's `data_policy.json`; entries of files that are gone are dropped.

    Args:
        folder: folder of the record.
        policy: policy of all these files; None or an unknown word is "restricted".
        paths: files and folders inside `folder`, or files with their SHA-256; hidden ones and records are left out.
    """
    folder = Path(folder)
    record, known = read_record(folder / POLICY_FILE) or {}, paths if isinstance(paths, Mapping) else {}
    entries = {name: entry for name, entry in record.get("files", {}).items() if (folder / name).is_file()}
    for path in paths:
        for file in path.rglob("*") if path.is_dir() else (path,):
            name = file.relative_to(folder)
            if file.is_file() and not is_hidden(name) and name.name != POLICY_FILE:
                entries[name.as_posix()] = {
                    "sha256": known.get(file) or checksum(file),
                    "data_policy": strictest([policy]),
                }
    with staged_file(folder / POLICY_FILE) as partial:
        content = {**record, "files": dict(sorted(entries.items()))}
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@contextmanager
def recorded(folder: str | os.PathLike[str], policy: str | None) -> Iterator[None]:
    """Record the policy of all files that the block writes into a folder, except those that it records itself."""
    folder = Path(folder)
    before = _states(folder)
    yield
    written = [path for path, state in _states(folder).items() if before.get(path) != state]
    unlisted = [path for path, known in recorded_policies(folder, written).items() if known is None]
    if unlisted:
        record_policy(folder, policy, unlisted)


def recorded_policies(folder: Path, paths: Iterable[Path]) -> dict[Path, str | None]:
    """The policy of each file by the records of its folder and of those above, up to `folder`; None if none lists it.

    The strictest holds if several records list a file as it is.
    """
    records: dict[Path, dict[str, Any]] = {}
    policies = {}
    for path in paths:
        places = [place for place in path.parents if place.is_relative_to(folder)]
        for place in places:
            if place not in records:
                records[place] = (read_record(place / POLICY_FILE) or {}).get("files", {})
        entries = [records[place].get(path.relative_to(place).as_posix()) for place in places]
        listed = [entry for entry in entries if entry is not None]
        digest = checksum(path) if listed else None
        stated = [entry["data_policy"] for entry in listed if entry["sha256"] == digest]
        policies[path] = strictest(stated) if stated else None
    return policies


def read_record(path: Path) -> dict[str, Any] | None:
    """The content of a record; None if there is none, or if it holds anything else than policies of files."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not record.keys() <= {"data_policy", "files"}:
        return None
    entries = record.get("files", {})
    if record.get("data_policy", DATA_POLICIES[0]) not in DATA_POLICIES or not isinstance(entries, dict):
        return None
    return record if all(map(_is_entry, entries.values())) else None


def is_hidden(path: Path) -> bool:
    """Whether a part of a path begins with a dot: such files are never published."""
    return any(part.startswith(".") for part in path.parts)


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() == {"sha256", "data_policy"}
        and entry["data_policy"] in DATA_POLICIES
        and isinstance(entry["sha256"], str)
        and _SHA256.fullmatch(entry["sha256"]) is not None
    )


def _states(folder: Path) -> dict[Path, tuple[int, ...]]:
    """Inode, size and times of each file, which change when it is written."""
    found: dict[Path, tuple[int, ...]] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            state = path.stat()
            found[path] = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    return found
