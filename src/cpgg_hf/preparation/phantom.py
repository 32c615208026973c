"""Data sets of phantom cines: rendered in parallel, resumable, the same for the same seed."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from cpgg_hf import phantom
from cpgg_hf.cine import Cine
from cpgg_hf.dataset import SPLITS, cine_row, shard_path, write_description, write_shard
from cpgg_hf.dataset.card import write_card
from cpgg_hf.errors import InputError
from cpgg_hf.grid import SPACING_MM
from cpgg_hf.shards import Shard, ShardPlan, derive_seed, keep_plan, locked, make_shards_in_processes
from cpgg_hf.shards.engine import RECORDS_FOLDER

_PLAN_FILE = f"{RECORDS_FOLDER}/plan.json"


def phantom_cine(seed: int, split: str, index: int) -> Cine:
    """Cine `index` of a split, with the phenotypes it was rendered from; depends on nothing else."""
    own_seed = derive_seed(seed, SPLITS.index(split), index)
    return phantom.render(phantom.sample_phenotypes(1, own_seed)[0], own_seed).cine


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
    """Render a data set of phantom cines; the same call resumes an interrupted one.

    Args:
        out: folder of the data set.
        num_train: cines of the training split.
        num_validation: cines of the validation split.
        num_test: cines of the test split.
        seed: cine `i` of a split depends only on `seed`, the split and `i`.
        num_processes: processes that render; the result is the same for any number.
        shard_size: cines per shard.
        progress: whether to show a progress bar.

    Returns:
        The content of the data set's `dataset.json`.

    Raises:
        InputError: the folder holds data that this function did not make.
        RequestError: the folder was started with other arguments.
        OutputError: the folder cannot be written, or another run is active in it.
    """
    out = Path(out)
    counts = dict(zip(SPLITS, (num_train, num_validation, num_test), strict=True))
    if min(counts.values()) < 0 or sum(counts.values()) == 0:
        raise ValueError(f"the splits need 0 or more cines each and at least one in all, given {counts}.")
    if seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, given {seed}.")
    if num_processes < 1 or shard_size < 1:
        raise ValueError(f"num_processes and shard_size must be at least 1, given {num_processes} and {shard_size}.")
    details = {
        "source": "phantom",
        "population_version": phantom.POPULATION_VERSION,
        "renderer_version": phantom.RENDERER_VERSION,
        "seed": seed,
        "spacing_mm": SPACING_MM,
        "data_policy": "phantom",
    }
    shards = tuple(
        Shard(shard_path("", split, index, -(-count // shard_size)).name, split, first, min(first + shard_size, count))
        for split, count in counts.items()
        for index, first in enumerate(range(0, count, shard_size))
    )
    plan = ShardPlan(details, shards)
    if not (out / _PLAN_FILE).exists() and any(out.glob("*.parquet")):
        raise InputError(f"{out} holds a data set that was made differently; choose another folder.")
    with (
        locked(out, "phantoms"),
        tqdm(total=plan.num_items, unit="cine", desc="rendering phantoms", disable=not progress) as bar,
    ):
        keep_plan(out / _PLAN_FILE, {**details, "num_cines": counts, "shard_size": shard_size})
        make_shards_in_processes(
            out,
            plan,
            lambda shard: partial(_write_phantoms, seed, shard),
            num_processes,
            on_shard=lambda shard: bar.update(len(shard)),
        )
    description = write_description(out, **details)
    write_card(out)
    return description


def _write_phantoms(seed: int, shard: Shard, path: Path) -> None:
    split = shard.group
    cines = (
        replace(phantom_cine(seed, split, index), subject=f"phantom-{seed}-{split}-{index:06d}")
        for index in range(shard.first, shard.last)
    )
    write_shard(map(cine_row, cines), path)
