"""Data sets of phantom cines: rendered in parallel, one shard after another, resumable, the same for the same seed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from cpgg_hf import phantom
from cpgg_hf.dataset import (
    SPLITS,
    cine_row,
    read_plan,
    shard_path,
    write_description,
    write_shard,
)
from cpgg_hf.dataset.card import write_card
from cpgg_hf.errors import InputError
from cpgg_hf.grid import SPACING_MM

_CINES_PER_TASK = 4


def phantom_seed(seed: int, split: str, index: int) -> int:
    """The seed of cine `index` of a split: it depends on nothing else, so a split may grow and keep its cines."""
    sequence = np.random.SeedSequence([seed, SPLITS.index(split), index])
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def phantom_row(seed: int, split: str, index: int) -> dict[str, Any]:
    """Cine `index` of a split, with the phenotypes it was drawn from, as a data set's row."""
    own_seed = phantom_seed(seed, split, index)
    rendered = phantom.render(phantom.sample_phenotypes(1, own_seed)[0], own_seed)
    return cine_row(replace(rendered.cine, subject=f"phantom-{seed}-{split}-{index:06d}"))


def _row_of(task: tuple[int, str, int]) -> dict[str, Any]:
    return phantom_row(*task)


def prepare_phantom(
    out: str | os.PathLike[str],
    num_train: int,
    num_validation: int = 0,
    num_test: int = 0,
    seed: int = 0,
    num_processes: int = 1,
    shard_size: int = 250,
    progress: bool = True,
) -> dict[str, Any]:
    """Render a data set of phantom cines; called again after an interruption, it goes on at the first missing shard.

    Args:
        out: the data set's folder.
        num_train: cines of the training split.
        num_validation: cines of the validation split.
        num_test: cines of the test split.
        seed: cine `i` of a split depends on `seed`, the split and `i` alone.
        num_processes: processes that render; the result is the same for any number.
        shard_size: cines a shard.
        progress: whether to show a progress bar.

    Returns:
        The content of the data set's `dataset.json`.

    Raises:
        InputError: the folder holds shards of other cines.
    """
    out = Path(out)
    counts = dict(zip(SPLITS, (num_train, num_validation, num_test), strict=True))
    if min(counts.values()) < 0 or sum(counts.values()) == 0:
        raise ValueError(f"the splits need 0 or more cines each and at least one in all, given {counts}.")
    if seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, given {seed}.")
    if num_processes < 1 or shard_size < 1:
        raise ValueError(f"num_processes and shard_size must be at least 1, given {num_processes} and {shard_size}.")
    out.mkdir(parents=True, exist_ok=True)
    version = f"population {phantom.POPULATION_VERSION} renderer {phantom.RENDERER_VERSION}"

    paths = {split: _shard_paths(out, split, num_cines, shard_size) for split, num_cines in counts.items()}
    bar = tqdm(total=sum(counts.values()), unit="cine", desc="rendering phantoms", disable=not progress)
    # Spawned, not forked: the caller may have threads running (torch, datasets), and a fork would inherit their locks.
    workers = ProcessPoolExecutor(num_processes, get_context("spawn")) if num_processes > 1 else None
    with bar, workers or nullcontext():
        for split, num_cines in counts.items():
            for shard, path in enumerate(paths[split]):
                first, last = shard * shard_size, min((shard + 1) * shard_size, num_cines)
                plan = f"phantom {version} seed {seed} {split} {first}:{last}"
                if path.exists():
                    _check_plan(path, plan)
                    bar.update(last - first)
                    continue
                tasks = [(seed, split, index) for index in range(first, last)]
                rows: Iterator[dict[str, Any]] = (
                    map(_row_of, tasks) if workers is None else workers.map(_row_of, tasks, chunksize=_CINES_PER_TASK)
                )
                write_shard(_counted(rows, bar), path, plan)
    description = write_description(
        out,
        source="phantom",
        population_version=phantom.POPULATION_VERSION,
        renderer_version=phantom.RENDERER_VERSION,
        seed=seed,
        spacing_mm=SPACING_MM,
        data_policy="phantom",
    )
    write_card(out)
    return description


def _shard_paths(out: Path, split: str, num_cines: int, shard_size: int) -> list[Path]:
    num_shards = -(-num_cines // shard_size)
    paths = [shard_path(out, split, shard, num_shards) for shard in range(num_shards)]
    foreign = sorted(set(out.glob(f"{split}-*.parquet")) - set(paths))
    if foreign:
        raise InputError(
            f"{foreign[0]} is no shard of {num_cines} cines in shards of {shard_size}; choose another folder, "
            "or delete the split first."
        )
    return paths


def _counted(rows: Iterator[dict[str, Any]], bar: tqdm) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield row
        bar.update()


def _check_plan(path: Path, plan: str) -> None:
    found = read_plan(path)
    if found != plan:
        raise InputError(
            f"{path} was made as {found!r}, asked for is {plan!r}; choose another folder, or delete this one first."
        )
