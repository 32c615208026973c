"""Training images of the segmenters, rendered once into memory-mapped files."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from cpgg_hf.errors import RequestError
from cpgg_hf.files.staging import staged_file
from cpgg_hf.shards import Shard, ShardPlan, make_shards

SUBJECTS_PER_FILE = 50


class RenderedSubjects:
    """Arrays of subjects, kept in a folder as .npy files; missing or damaged files are rendered.

    Args:
        folder: created if missing.
        name: beginning of the files' names.
        num_subjects: a multiple of 50.
        settings: everything the content follows from.
        render: the rows (rows per subject, ...) uint8 of subject `index`; as many for every subject.
        progress: whether to show a progress bar.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        name: str,
        num_subjects: int,
        settings: dict[str, Any],
        render: Callable[[int], np.ndarray],
        progress: bool,
    ) -> None:
        if num_subjects < 1 or num_subjects % SUBJECTS_PER_FILE:
            raise RequestError(
                f"num_subjects must be a positive multiple of {SUBJECTS_PER_FILE}, given {num_subjects}."
            )
        starts = range(0, num_subjects, SUBJECTS_PER_FILE)
        shards = [Shard(f"{name}-{start:05d}.npy", name, start, start + SUBJECTS_PER_FILE) for start in starts]

        def write(shard: Shard, path: Path) -> None:
            rows = np.concatenate([render(index) for index in range(shard.first, shard.last)])
            with staged_file(path) as partial, partial.open("wb") as file:
                np.save(file, rows)

        self._files: list[np.ndarray] = []
        for shard in tqdm(shards, desc=f"rendering {name}", disable=not progress):
            plan = ShardPlan(settings, (shard,))  # of its own, so that a larger set keeps the files of a smaller one
            make_shards(Path(folder), plan, write)
            self._files.append(np.load(Path(folder) / shard.name, mmap_mode="r"))
        self._digest = ShardPlan(settings, tuple(shards)).digest

    def __len__(self) -> int:
        """Rows of all subjects."""
        return sum(map(len, self._files))

    def fingerprint(self) -> str:
        """Changes with the settings and the number of subjects."""
        return self._digest

    def rows(self, indices: Sequence[int]) -> np.ndarray:
        """Rows by index, one after another through all subjects."""
        per_file = len(self._files[0])
        return np.stack([self._files[index // per_file][index % per_file] for index in indices])
