"""`dataset.json`: what a cine data set holds, written last, so that a folder without it is not finished."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cpgg_hf.dataset.parquet import FORMAT_VERSION, ROWS_PER_GROUP, SPLITS, find_shards, other_version
from cpgg_hf.errors import InputError, brief
from cpgg_hf.files.staging import staged_file

DESCRIPTION_FILE = "dataset.json"


def write_description(folder: str | os.PathLike[str], **details: Any) -> dict[str, Any]:
    """Write `dataset.json`: format version, cines and shards of each split, and the given details."""
    import pyarrow.parquet as pq

    splits = {}
    for split in SPLITS:
        counts = [pq.read_metadata(path).num_rows for path in find_shards(folder, split)]
        if counts:
            splits[split] = {"num_cines": sum(counts), "num_shards": len(counts), "cines_per_shard": counts}
    description = {
        "format_version": FORMAT_VERSION,
        "splits": splits,
        "cines_per_group": ROWS_PER_GROUP,
        **details,
    }
    with staged_file(Path(folder) / DESCRIPTION_FILE) as partial:
        partial.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return description


def read_description(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a data set's `dataset.json`.

    Raises:
        InputError: no such file, or one of another format.
    """
    path = Path(folder) / DESCRIPTION_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise no_description(folder) from None
    except ValueError as error:
        raise _unreadable(path, error) from None
    return parse_description(text, path)


def parse_description(text: str, place: object) -> dict[str, Any]:
    """The content of a `dataset.json` that was read from `place`; errors as `read_description`."""
    try:
        description = json.loads(text)
        version, _ = description["format_version"], description["splits"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(place, error) from None
    if version != FORMAT_VERSION:
        raise InputError(f"{place} {other_version(version)}")
    return description


def no_description(place: object) -> InputError:
    """The error for a folder or repository without `dataset.json`."""
    return InputError(
        f"{place} has no {DESCRIPTION_FILE}: it is no cine data set, or its preparation has not ended yet; "
        "write one with `cpgg prepare`."
    )


def _unreadable(place: object, error: Exception) -> InputError:
    return InputError(f"{place} cannot be read ({brief(error)}); prepare the data set again.")
