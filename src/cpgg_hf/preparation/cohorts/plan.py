"""The plan of a cohort: subjects under pseudonyms in the order of the data set, and all that their rows depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

from cpgg_hf.dataset import SPLITS
from cpgg_hf.grid import GRID_SIZE, NUM_FRAMES, SPACING_MM
from cpgg_hf.preparation.cohorts.pseudonyms import fingerprint, pseudonym, split_of
from cpgg_hf.preparation.cohorts.subject import Task
from cpgg_hf.preparation.layouts.subject import Subject
from cpgg_hf.shards import Shard, ShardPlan
from cpgg_hf.version import __version__

_SUBJECTS_PER_CHUNK = 8


@dataclass(frozen=True)
class CohortPlan:
    """What a run over a cohort does.

    Attributes:
        tasks: by split, sorted by pseudonym.
        repeated: pseudonyms of subjects that the input names more than once.
        settings: of the run: view, policy, splits, a fingerprint of the key, versions.
        content: what a resumed run must agree with, without identifiers and paths.
    """

    tasks: dict[str, tuple[Task, ...]]
    repeated: tuple[str, ...]
    settings: dict[str, Any]
    content: dict[str, Any]

    @property
    def num_subjects(self) -> int:
        """Subjects, each counted once."""
        return sum(map(len, self.tasks.values()))

    def chunks(self) -> ShardPlan:
        """The chunks of subjects that are prepared and written together."""
        return ShardPlan(self.content, tuple(shard for split in SPLITS for shard in self._chunks(split)))

    def tasks_of(self, chunk: Shard) -> tuple[Task, ...]:
        """The subjects of a chunk."""
        return self.tasks[chunk.group][chunk.first : chunk.last]

    def _chunks(self, split: str) -> Iterator[Shard]:
        count = len(self.tasks[split])
        for number, first in enumerate(range(0, count, _SUBJECTS_PER_CHUNK)):
            yield Shard(f"{split}-{number:06d}", split, first, min(first + _SUBJECTS_PER_CHUNK, count))


def make_plan(
    subjects: Iterable[Subject],
    key: bytes,
    shares: Sequence[float],
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
        split = split_of(subject.identifier, key, shares)
        tasks[name] = Task(subject, name, split, view, data_policy, turn_upright, segmenter)
    by_split = {
        split: tuple(sorted((task for task in tasks.values() if task.split == split), key=lambda task: task.pseudonym))
        for split in SPLITS
    }
    ordered = [task for split in SPLITS for task in by_split[split]]
    segmenter_hash, libraries = None, ["numpy", "scipy"]
    if segmenter is not None:
        from cpgg_hf.preparation.grid.heart_segmentation import segmenter_fingerprint

        segmenter_hash = segmenter_fingerprint(segmenter)
        libraries.append("torch")
    settings = {
        "key": fingerprint(key),
        "view": view,
        "data_policy": data_policy,
        "shares": list(shares),
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
        "phenotypes": fingerprint(key, _digest(_phenotypes(task.subject) for task in ordered)),
    }
    return CohortPlan(by_split, tuple(sorted(repeated)), settings, content)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def _phenotypes(subject: Subject) -> bytes:
    return b"none" if subject.phenotypes is None else np.asarray(subject.phenotypes, dtype=np.float64).tobytes()
