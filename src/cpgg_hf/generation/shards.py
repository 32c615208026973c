"""The shards of a generated set on its shared folder: which cines each holds, and which are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cpgg_hf.dataset import DESCRIPTION_FILE, read_plan, shard_path
from cpgg_hf.errors import RequestError


class GeneratedShards:
    """All shards of one set.

    Args:
        out: the folder.
        split: of the data set.
        num_cines: of the whole set.
        shard_size: cines a shard; the last one may have fewer.
        digest: of the plan; every shard carries it.
    """

    def __init__(self, out: Path, split: str, num_cines: int, shard_size: int, digest: str) -> None:
        self.out = out
        self.num_cines = num_cines
        self.digest = digest
        num_shards = -(-num_cines // shard_size)
        self.indices = {
            shard_path(out, split, shard, num_shards).name: range(
                shard * shard_size, min((shard + 1) * shard_size, num_cines)
            )
            for shard in range(num_shards)
        }

    @property
    def paths(self) -> list[Path]:
        """All shards in order, whether they are there or not."""
        return [self.out / name for name in self.indices]

    def plan(self, name: str) -> str:
        """What the shard of this name carries as its plan."""
        indices = self.indices[name]
        return f"cpgg {self.digest} {indices.start}:{indices.stop}"

    def missing(self) -> list[str]:
        """What can be made now: the shards that are not there, and after them the data set's description."""
        present = {path.name for path in self.out.iterdir()}
        shards = [name for name in self.indices if name not in present]
        return shards or [name for name in (DESCRIPTION_FILE,) if name not in present]

    def count_finished(self, missing: Sequence[str]) -> int:
        """Cines in the shards that are there, whoever made them, by what `missing` gave."""
        return self.num_cines - sum(len(self.indices.get(name, ())) for name in missing)

    def check(self) -> None:
        """Looks at the shards that are there.

        Raises:
            RequestError: one was not made by this plan.
            InputError: one cannot be read.
        """
        for name in self.indices.keys() - set(self.missing()):
            if read_plan(self.out / name) != self.plan(name):
                raise RequestError(
                    f"{self.out / name} was not made by the plan beside it; delete it, or choose another folder."
                )

    def tidy(self, name: str) -> None:
        """Removes what killed processes left of a file half-written; with the description, of any file."""
        for path in self.out.glob(f".*.partial.{'*' if name == DESCRIPTION_FILE else name}"):
            path.unlink(missing_ok=True)
