"""The files of a cine data set: parquet shards `<split>-00000-of-000NN.parquet`, and `dataset.json` with the counts.

Every file appears complete or not at all; `dataset.json` is written last, so a folder without it is unfinished.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from cpgg_hf.data_policy import strictest
from cpgg_hf.dataset.rows import GENERATED_COLUMNS, PREVIEW_COLUMN, row_schema
from cpgg_hf.errors import InputError, brief
from cpgg_hf.files.checksum import checksum
from cpgg_hf.files.policy_record import record_policy
from cpgg_hf.files.staging import staged_file

DESCRIPTION_FILE = "dataset.json"
FORMAT_VERSION = 2
SPLITS = ("train", "validation", "test")
ROWS_PER_GROUP = 50  # about 8 MB on disk, 23 MB of pixels: the unit a stream fetches, unpacks and shuffles
_VERSION = b"cpgg_format_version"


def shard_name(split: str, index: int, num_shards: int) -> str:
    """`<split>-00000-of-000NN.parquet`."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}.")
    return f"{split}-{index:05d}-of-{num_shards:05d}.parquet"


def shard_path(folder: str | os.PathLike[str], split: str, index: int, num_shards: int) -> Path:
    """`<folder>/<split>-00000-of-000NN.parquet`."""
    return Path(folder) / shard_name(split, index, num_shards)


def write_shard(rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> int:
    """Write rows from `cine_row` as one parquet file that appears complete or not at all; returns their number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = row_schema()
    schema = schema.with_metadata({**schema.metadata, _VERSION: str(FORMAT_VERSION)})
    # Dictionaries and statistics of whole cines would only cost time and space.
    settings = {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": ["view", "source", "data_policy"],
        "write_statistics": [name for name in schema.names if name != "cine"],
        "write_page_checksum": True,
    }
    num_rows = 0
    with staged_file(path) as partial, pq.ParquetWriter(partial, schema, **settings) as writer:
        remaining = iter(rows)
        while group := list(islice(remaining, ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            num_rows += len(group)
    return num_rows


def check_shard(path: str | os.PathLike[str]) -> None:
    """InputError for a shard on disk that is damaged, foreign or of another format."""
    import pyarrow.parquet as pq

    try:
        if not Path(path).is_file():
            raise ValueError("it is not a file")
        schema = pq.read_schema(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a readable parquet shard ({brief(error)}); download it again, or delete it and re-run the "
            "command that made it."
        ) from None
    version = (schema.metadata or {}).get(_VERSION, b"1").decode()
    later = {PREVIEW_COLUMN, *GENERATED_COLUMNS}  # than the first format, whose shards are refused by their version
    missing = set(row_schema().names) - later - set(schema.names)
    if missing:
        raise InputError(
            f"{path} is not a shard of cines: it lacks the column {min(missing)!r}; "
            "give a folder that `cpgg prepare` wrote."
        )
    if version != str(FORMAT_VERSION):
        raise InputError(f"{path} {other_version(version)}")


def other_version(version: object) -> str:
    """The rest of an error message for a data set of another format version."""
    return (
        f"has format version {version}, this package reads version {FORMAT_VERSION}; "
        "prepare the data again into a new folder."
    )


def find_shards(folder: str | os.PathLike[str], split: str) -> list[Path]:
    """The shards of a split in order; empty where the split does not exist.

    Raises:
        InputError: shards are missing, or belong to different data sets.
    """
    paths = sorted(Path(folder).glob(f"{split}-*-of-*.parquet"))
    check_complete([path.name for path in paths], split, folder)
    return paths


def check_complete(names: Sequence[str], split: str, place: object) -> None:
    """InputError unless the sorted `names` are those of all shards of a split, or none."""
    if not names:
        return
    totals = [re.fullmatch(r".*-of-(\d{1,9})\.parquet", name) for name in names]
    if None in totals:
        raise InputError(f"{place} holds {names[totals.index(None)]}, which is no shard; remove it.")
    count = max(int(total[1]) for total in totals if total)
    if list(names) != [shard_name(split, index, count) for index in range(count)]:
        raise InputError(
            f"{place} holds {len(names)} shards of the split {split!r} where {count} are expected; "
            "download it again, or re-run the command that made it."
        )


def write_description(folder: str | os.PathLike[str], **details: Any) -> dict[str, Any]:
    """Write `dataset.json`: format version, cines and shards of each split, SHA-256 of the shards, given details.

    The data policy of the shards is recorded, see `cpgg_hf.files.policy_record`.
    """
    import pyarrow.parquet as pq

    folder = Path(folder)
    shards = {split: find_shards(folder, split) for split in SPLITS}
    digests = {path: checksum(path) for paths in shards.values() for path in paths}
    splits = {}
    for split, paths in shards.items():
        counts = [pq.read_metadata(path).num_rows for path in paths]
        if counts:
            splits[split] = {"num_cines": sum(counts), "num_shards": len(counts), "cines_per_shard": counts}
    description = {
        "format_version": FORMAT_VERSION,
        "splits": splits,
        "cines_per_group": ROWS_PER_GROUP,
        "sha256": {path.name: digest for path, digest in digests.items()},
        **details,
    }
    with staged_file(folder / DESCRIPTION_FILE) as partial:
        partial.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    stated = [policy for path in digests for policy in policies_of_rows(path)]
    policy = strictest([*stated, details.get("data_policy", strictest(stated))])
    record_policy(folder, policy, {**digests, folder / DESCRIPTION_FILE: checksum(folder / DESCRIPTION_FILE)})
    return description


def policies_of_rows(path: Path) -> list[str | None]:
    """Each data policy that rows of a shard state; None if some state none, or it cannot be read."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        if "data_policy" not in pq.read_schema(path).names:
            return [None]
        return pc.unique(pq.read_table(path, columns=["data_policy"])["data_policy"]).to_pylist()
    except (OSError, pa.ArrowException):
        return [None]


def read_description(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a data set's `dataset.json`.

    Raises:
        InputError: no such file, or one of another format.
    """
    path = Path(folder) / DESCRIPTION_FILE
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is not a file")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise no_description(folder) from None
    except ValueError as error:
        raise _unreadable(path, error) from None
    return parse_description(text, path)


def parse_description(text: str, place: object) -> dict[str, Any]:
    """The content of a `dataset.json` read from `place`; errors as `read_description`."""
    try:
        description = json.loads(text)
        version, splits = description["format_version"], description["splits"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(place, error) from None
    if version != FORMAT_VERSION:
        raise InputError(f"{place} {other_version(version)}")
    for split, content in splits.items() if isinstance(splits, dict) else ():
        if not _is_split(content):
            raise InputError(
                f"{place}: the split {split!r} must list its num_shards, num_cines and cines_per_shard, which add up; "
                "download it again, or re-run the command that made it."
            )
    if not isinstance(splits, dict) or not isinstance(description.get("sha256", {}), dict):
        raise InputError(
            f"{place}: splits and sha256 must be objects; download it again, or re-run the command that made it."
        )
    return description


def _is_split(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    counts = content.get("cines_per_shard")
    if not isinstance(counts, list) or not all(type(count) is int and count > 0 for count in counts):
        return False
    return content.get("num_shards") == len(counts) and content.get("num_cines") == sum(counts)


def no_description(place: object) -> InputError:
    """The error for a folder or repository without `dataset.json`."""
    return InputError(
        f"{place} has no {DESCRIPTION_FILE}: it is not a cine data set, or its preparation is unfinished; "
        "write one with `cpgg prepare`."
    )


def _unreadable(place: object, error: Exception) -> InputError:
    return InputError(f"{place} cannot be read ({brief(error)}); prepare the data set again.")
