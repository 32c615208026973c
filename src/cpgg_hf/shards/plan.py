"""The plan of a run: settings that determine every byte, and which items go into which shard."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpgg_hf.errors import RequestError, brief
from cpgg_hf.files.staging import staged_file


@dataclass(frozen=True)
class Shard:
    """Items `first` to `last` - 1 of a group, in one file or folder, or in several.

    Attributes:
        name: name of the file or folder.
        group: such as a split.
        files: names of its files and folders if it has several; by default `name` only.
    """

    name: str
    group: str
    first: int
    last: int
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.last - self.first


@dataclass(frozen=True)
class ShardPlan:
    """Settings and shards of a run.

    Attributes:
        settings: JSON values; the bytes of the shards follow from them.
    """

    settings: Mapping[str, Any]
    shards: tuple[Shard, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of settings and shards; every shard's record has it."""
        shards = [[shard.name, shard.group, shard.first, shard.last, *shard.files] for shard in self.shards]
        return hashlib.sha256(json.dumps([self.settings, shards], sort_keys=True).encode()).hexdigest()

    @property
    def num_items(self) -> int:
        """Items in all shards."""
        return sum(map(len, self.shards))


def keep_plan(path: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a run to a JSON file, or compare them with the file's.

    Raises:
        RequestError: the file has other settings, or cannot be read.
    """
    if not path.exists():
        with staged_file(path) as partial:
            partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"cannot read {path} ({brief(error)}); choose another folder.") from None
    before, now = flat(found), flat(json.loads(json.dumps(settings)))
    differing = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if differing:
        shown = ", ".join(f"{key} = {before.get(key)!r} (now {now.get(key)!r})" for key in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise RequestError(f"{path} was started with {shown}{more}; use the same settings, or choose another folder.")


def flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """Nested objects as {"versions.torch": ...}."""
    if not isinstance(content, Mapping):
        return {prefix[:-1]: content}
    parts = [flat(value, f"{prefix}{key}.") for key, value in content.items()]
    return {name: leaf for part in parts for name, leaf in part.items()}
