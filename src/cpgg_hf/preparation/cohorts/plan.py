"""What a run over a cohort is going to do, so that a run that was killed goes on with exactly that."""

from __future__ import annotations

import hashlib
import json
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
from cpgg_hf.version import __version__

_SUBJECTS_A_CHUNK = 8
_LIBRARIES = ("numpy", "scipy")


@dataclass(frozen=True)
class Chunk:
    """Subjects of one split that are prepared and written together.

    Attributes:
        name: of its folder; chunks sort by it.
        tasks: the subjects, sorted by pseudonym.
    """

    name: str
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Plan:
    """The subjects in the order of the data set, and all that decides what becomes of them.

    Attributes:
        tasks: sorted by split, then by pseudonym.
        repeated: pseudonyms of subjects that the input named again.
        settings: what was asked for, the key's fingerprint, and the versions that work.
        phenotypes: fingerprint of all subjects' phenotypes.
    """

    tasks: tuple[Task, ...]
    repeated: tuple[str, ...]
    settings: dict[str, Any]
    phenotypes: str

    def chunks(self, split: str) -> Iterator[Chunk]:
        """The chunks of a split, in order."""
        tasks = [task for task in self.tasks if task.split == split]
        for number, first in enumerate(range(0, len(tasks), _SUBJECTS_A_CHUNK)):
            yield Chunk(f"{split}-{number:06d}", tuple(tasks[first : first + _SUBJECTS_A_CHUNK]))

    def content(self) -> dict[str, Any]:
        """The plan as JSON holds it: no identifier, no path."""
        return {
            "settings": self.settings,
            "subjects": [task.pseudonym for task in self.tasks],
            "repeated": list(self.repeated),
            "phenotypes": self.phenotypes,
        }

    def digest(self) -> str:
        """A short name of the plan: equal for equal plans."""
        return hashlib.sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()[:16]


def make_plan(
    subjects: Iterable[Subject],
    key: bytes,
    shares: Sequence[float],
    view: str,
    data_policy: str,
    turn_upright: bool,
    segmenter: str | None = None,
) -> Plan:
    """The plan of a cohort; of subjects that are named twice the first counts. Arguments as in `prepare_cohort`."""
    tasks: dict[str, Task] = {}
    repeated = []
    for subject in subjects:
        name = pseudonym(subject.identifier, key)
        if name in tasks:
            repeated.append(name)
            continue
        split = split_of(subject.identifier, key, shares)
        tasks[name] = Task(subject, name, split, view, data_policy, turn_upright, segmenter)
    ordered = sorted(tasks.values(), key=lambda task: (SPLITS.index(task.split), task.pseudonym))
    segmenter_hash: str | None = None
    libraries: tuple[str, ...] = _LIBRARIES
    if segmenter is not None:
        from cpgg_hf.preparation.grid.heart_segmentation import segmenter_fingerprint

        segmenter_hash, libraries = segmenter_fingerprint(segmenter), (*_LIBRARIES, "torch")
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
    return Plan(tuple(ordered), tuple(sorted(repeated)), settings, fingerprint(key, _phenotypes_digest(ordered)))


def _phenotypes_digest(tasks: Sequence[Task]) -> str:
    """Changes when any subject's phenotypes do."""
    known = hashlib.sha256()
    for task in tasks:
        phenotypes = task.subject.phenotypes
        known.update(b"none" if phenotypes is None else np.asarray(phenotypes, dtype=np.float64).tobytes())
    return known.hexdigest()


def difference(found: dict[str, Any], asked: dict[str, Any]) -> str:
    """What differs between two plans, as `Plan.content` gives them, in words; empty where nothing does."""
    for name, value in asked["settings"].items():
        if found["settings"].get(name) != value:
            if name == "key":
                return "it was made with another key file"
            return f"its {name} is {found['settings'].get(name)}, asked for is {value}"
    before, now = set(found["subjects"]), set(asked["subjects"])
    if before != now:
        return f"{len(now - before)} of the subjects were not there then, and {len(before - now)} are missing now"
    if found["phenotypes"] != asked["phenotypes"]:
        return "the subjects' phenotypes were others"
    return "" if found == asked else "other subjects are named twice"
