"""The plan: pseudonymised subjects in data set order, and the settings that determine their rows."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from cpgg_hf.dataset import SPLITS
from cpgg_hf.grid import GRID_SIZE, NUM_FRAMES, SPACING_MM
from cpgg_hf.preparation.cohorts.pseudonyms import SHARES, fingerprint, pseudonym, split_of
from cpgg_hf.preparation.cohorts.subject import Task
from cpgg_hf.preparation.layouts.subject import Subject
from cpgg_hf.shards import Shard, ShardPlan
from cpgg_hf.version import __version__

_SUBJECTS_PER_CHUNK = 8


@dataclass(frozen=True)
class CohortPlan:
    """Tasks and settings of a cohort run.

    Attributes:
        tasks: tasks by split, sorted by pseudonym.
        repeated: pseudonyms of subjects that the input names more than once.
        settings: settings of the run: view, policy, splits, a fingerprint of the key, versions.
        chunks: the subjects that are prepared and written together; their plan's settings are what a resumed run must
            agree with, without identifiers and paths.
    """

    tasks: dict[str, tuple[Task, ...]]
    repeated: tuple[str, ...]
    settings: dict[str, Any]
    chunks: ShardPlan

    @property
    def digest(self) -> str:
        """A hash of everything that the data set depends on."""
        return self.chunks.digest[:16]

    def tasks_of(self, chunk: Shard) -> tuple[Task, ...]:
        """The subjects of a chunk."""
        return self.tasks[chunk.group][chunk.first : chunk.last]


def make_plan(
    subjects: Iterable[Subject],
    key: bytes,
    view: str,
    data_policy: str,
    turn_upright: bool,
    segmenter: str | None = None,
) -> CohortPlan:
    """The plan of a cohort; of subjects with the same identifier the first counts. Arguments: see `prepare_cohort`."""
    tasks: dict[str, Task] = {}
    repeated = []
    for subject in subjects:
        name = pseudonym(subject.identifier, key)
        if name in tasks:
            repeated.append(name)
            continue
        split = split_of(subject.identifier, key)
        tasks[name] = Task(subject, name, split, view, data_policy, turn_upright, segmenter)
    ordered = sorted(tasks.values(), key=lambda task: (SPLITS.index(task.split), task.pseudonym))
    by_split = {split: tuple(task for task in ordered if task.split == split) for split in SPLITS}
    segmenter_hash, libraries = None, ["numpy", "scipy"]
    if segmenter is not None:
        from cpgg_hf.preparation.grid.heart_segmentation import segmenter_fingerprint

        segmenter_hash = segmenter_fingerprint(segmenter)
        libraries.append("torch")
    settings = {
        "key": fingerprint(key),
        "view": view,
        "data_policy": data_policy,
        "shares": list(SHARES),
        "turn_upright": turn_upright,
        "segmenter": segmenter_hash,
        "grid": [NUM_FRAMES, GRID_SIZE, GRID_SIZE, SPACING_MM],
        "versions": {"cpgg_hf": __version__, **{name: metadata.version(name) for name in libraries}},
    }
    content = {
        **settings,
        "num_subjects": len(ordered),
        "subjects": _digest(task.pseudonym.encode() for task in ordered),
        "repeated_subjects": _digest(name.encode() for name in sorted(repeated)),
        "phenotypes": fingerprint(
            key,
            _digest(b"none" if (values := task.subject.phenotypes) is None else values.tobytes() for task in ordered),
        ),
    }
    chunks = tuple(
        Shard(f"{split}-{number:06d}", split, first, min(first + _SUBJECTS_PER_CHUNK, len(of_split)))
        for split, of_split in by_split.items()
        for number, first in enumerate(range(0, len(of_split), _SUBJECTS_PER_CHUNK))
    )
    return CohortPlan(by_split, tuple(sorted(repeated)), settings, ShardPlan(content, chunks))


def _digest(parts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
