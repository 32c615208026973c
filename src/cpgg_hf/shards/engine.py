"""The engine behind everything that is made in parts: data sets, cohorts, training data, cached latents.

A shard appears complete or not at all. A record in the hidden folder `.shards` holds its checksum and the plan's
digest; a shard without a matching record is made again. Shard i belongs to worker i mod n. The bytes of a shard follow
from the plan only, so a run that was killed anywhere, with any number of workers, ends in the same bytes.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cpgg_hf.errors import OutputError
from cpgg_hf.files.checksum import checksum
from cpgg_hf.files.staging import disk_full_as_error, staged_file
from cpgg_hf.shards.plan import Shard, ShardPlan

RECORDS_FOLDER = ".shards"


class ShardFolder:
    """The shards of one plan in one folder."""

    def __init__(self, folder: Path, plan: ShardPlan) -> None:
        self.folder, self.plan = folder, plan
        self._digest = plan.digest

    def path(self, shard: Shard) -> Path:
        """The path of a shard of one file or folder."""
        return self.folder / shard.name

    def paths(self, shard: Shard) -> list[Path]:
        """The paths of all files and folders of a shard."""
        return [self.folder / name for name in shard.files or (shard.name,)]

    def is_complete(self, shard: Shard, verify: bool = True) -> bool:
        """Whether a shard exists, was made by this plan and, with `verify`, matches its checksum."""
        try:
            record = json.loads(self._record(shard).read_text(encoding="utf-8"))
            if record["plan"] != self._digest or not all(path.exists() for path in self.paths(shard)):
                return False
            return not verify or record["sha256"] == self._checksum(shard)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return False

    def missing(self, verify: bool = True) -> list[Shard]:
        """The shards that are still to be made."""
        return [shard for shard in self.plan.shards if not self.is_complete(shard, verify)]

    def discard(self, shard: Shard) -> None:
        """Remove an incomplete shard and the temporary files that a killed process left of it."""
        paths = self.paths(shard)
        leftovers = [left for path in paths for left in self.folder.glob(f".*.partial.{path.name}")]
        for path in (self._record(shard), *paths, *leftovers):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def add(self, shard: Shard) -> None:
        """Record a shard that has been written."""
        self._record(shard).parent.mkdir(exist_ok=True)
        with staged_file(self._record(shard)) as partial:
            content = {"plan": self._digest, "sha256": self._checksum(shard)}
            partial.write_text(json.dumps(content), encoding="utf-8")

    def _checksum(self, shard: Shard) -> str:
        return " ".join(map(checksum, self.paths(shard)))

    def _record(self, shard: Shard) -> Path:
        return self.folder / RECORDS_FOLDER / f"{shard.name}.json"


def make_shards(
    folder: Path,
    plan: ShardPlan,
    write: Callable[[Shard, Path], None],
    *,
    worker: int = 0,
    num_workers: int = 1,
    on_shard: Callable[[Shard], None] = lambda _: None,
) -> bool:
    """Make the shards of one worker that are not complete yet; if none is missing, the folder may be read-only.

    Args:
        folder: created if missing.
        plan: its settings can be kept in a file, see `keep_plan`.
        write: writes one shard to a path, complete or not at all (`staged_file`, `staged_folder`).
        worker: index of this worker, from 0.
        num_workers: number of workers that share the folder.
        on_shard: called for each complete shard of this worker, made now or before.

    Returns:
        Whether the shards of all workers exist; each worker verifies the checksums of its own.

    Raises:
        OutputError: a full disk, or this worker or a run with another number of workers is active in the folder.
    """
    shards = ShardFolder(folder, plan)
    missing = []
    for shard in plan.shards[worker::num_workers]:
        if shards.is_complete(shard):
            on_shard(shard)
        else:
            missing.append(shard)
    if missing:
        with working(folder, worker, num_workers), disk_full_as_error(folder):
            for shard in missing:
                if not shards.is_complete(shard):  # another run may have ended meanwhile
                    shards.discard(shard)
                    write(shard, shards.path(shard))
                    shards.add(shard)
                on_shard(shard)
    return not shards.missing(verify=False)


@contextmanager
def working(folder: Path, worker: int = 0, num_workers: int = 1) -> Iterator[None]:
    """Hold the locks of one worker: its own, and one that keeps out runs with another number of workers.

    Such runs share out the shards differently, so two workers would write and discard the same one.

    Raises:
        OutputError: this worker or a run with another number of workers is active, or the folder cannot be written.
    """
    name = f"{num_workers} workers"
    with locked(folder, f"worker {worker}"), locked(folder, name, shared=True):
        for other in sorted((folder / RECORDS_FOLDER).glob("*-workers.lock")):
            if other.stem != name.replace(" ", "-"):
                with locked(folder, other.stem.replace("-", " ")):
                    pass
        yield


@contextmanager
def locked(folder: Path, name: str, wait: bool = False, shared: bool = False) -> Iterator[None]:
    """Hold a lock until the block or the process ends, however it ends; file systems without locks hold none.

    Args:
        folder: folder of the lock, which lies in its hidden folder `.shards`.
        name: name of the lock.
        wait: wait for another process that holds it.
        shared: others that share it too may hold it at the same time.

    Raises:
        OutputError: another process holds it, or the folder cannot be written.
    """
    import fcntl

    place = folder / RECORDS_FOLDER
    try:
        place.mkdir(parents=True, exist_ok=True)
        file = (place / f"{name.replace(' ', '-')}.lock").open("w")
    except OSError as error:
        raise OutputError(f"cannot write to {folder} ({error.strerror}); choose another folder.") from None
    with file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise OutputError(
                f"another run ({name}) is active in {folder}; wait until it ends, or choose another folder."
            ) from None
        except OSError:
            pass
        yield
