"""The location of a cine data set: a folder or a data set repository on the Hub, with one interface.

A repository is pinned to a commit when it is opened, so that a run reads one version even if someone pushes meanwhile.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpgg_hf.dataset.parquet import (
    DESCRIPTION_FILE,
    check_complete,
    check_shard,
    find_shards,
    no_description,
    parse_description,
    read_description,
    shard_name,
)
from cpgg_hf.errors import InputError, brief
from cpgg_hf.files.checksum import checksum

if TYPE_CHECKING:
    import fsspec

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class CineSource:
    """A data set that can be read.

    Attributes:
        name: the folder or repository as it was given.
        root: the folder, or `datasets/<repository>@<commit>`.
        on_hub: whether `root` is on the Hub.
        description: the content of its `dataset.json`.
    """

    name: str
    root: str
    on_hub: bool
    description: dict[str, Any]

    def filesystem(self) -> fsspec.AbstractFileSystem:
        """The filesystem that contains `root` and the shards."""
        from fsspec.implementations.local import LocalFileSystem

        return _hub() if self.on_hub else LocalFileSystem()

    def shards(self, split: str) -> list[str]:
        """The paths of all shards of a split in their filesystem, in order.

        Raises:
            InputError: no such split, or missing, damaged or foreign shards.
        """
        if split not in self.description["splits"]:
            splits = ", ".join(self.description["splits"]) or "none"
            raise InputError(f"{self.name} has no split {split!r}; it has {splits}.")
        if self.on_hub:
            listed = (path.rsplit("/", 1)[1] for path in _hub().ls(self.root, detail=False))
            names = sorted(name for name in listed if re.fullmatch(rf"{split}-\d+-of-\d+\.parquet", name))
            check_complete(names, split, self.name)
        else:
            paths = find_shards(self.root, split)
            for path in paths:
                check_shard(path)
            names = [path.name for path in paths]
        expected = self.description["splits"][split]["num_shards"]
        if names != [shard_name(split, index, expected) for index in range(expected)]:
            raise InputError(
                f"{self.name} holds {len(names)} shards of the split {split!r}, its {DESCRIPTION_FILE} lists "
                f"{expected}; download it again, or re-run the command that made it."
            )
        return [f"{self.root}/{name}" for name in names]

    def verify(self, shard: str) -> None:
        """InputError if a shard in a folder is not the one whose SHA-256 `dataset.json` lists, if it lists any.

        It takes 1 to 2 s per GB. Shards of a repository are verified by page, like all others, when they are read.
        """
        expected = self.description.get("sha256", {}).get(Path(shard).name)
        if not self.on_hub and expected is not None and checksum(Path(shard)) != expected:
            raise InputError(
                f"{shard} cannot be read as it was written (its SHA-256 is not that in {DESCRIPTION_FILE}); "
                "download or prepare the data set again."
            )

    def urls(self, split: str) -> list[str]:
        """The verified shards as `datasets.load_dataset("parquet", data_files=...)` takes them; errors as `shards`."""
        shards = self.shards(split)
        for shard in shards:
            self.verify(shard)
        return [f"hf://{path}" if self.on_hub else path for path in shards]


def open_source(path_or_repo: str | os.PathLike[str], revision: str | None = None) -> CineSource:
    """The data set of a folder, or of a repository "owner/name" where no such folder exists.

    Args:
        path_or_repo: a folder that `cpgg prepare` or `CineWriter` wrote, or a data set repository on the Hub.
        revision: branch, tag or commit of a repository; by default its main branch.

    Raises:
        InputError: no data set there, one of another format, or an unreachable repository.
    """
    name = os.fspath(path_or_repo)
    if Path(name).exists() or not _REPOSITORY.fullmatch(name):
        return CineSource(name, str(Path(name).absolute()), False, read_description(name))

    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    try:
        commit = HfApi().dataset_info(name, revision=revision).sha
        root = f"datasets/{name}@{commit}"
        text = _hub().read_text(f"{root}/{DESCRIPTION_FILE}", encoding="utf-8")
    except FileNotFoundError:
        raise no_description(name) from None
    except (HTTPError, OSError, ValueError) as error:
        raise InputError(
            f"{name} is not a local folder, and no data set could be read from the Hub ({brief(error)}); check the "
            "name, the connection and, for a private repository, the token."
        ) from None
    return CineSource(name, root, True, parse_description(text, f"{name}/{DESCRIPTION_FILE}"))


def _hub() -> fsspec.AbstractFileSystem:
    from huggingface_hub import HfFileSystem

    return HfFileSystem()
