"""The outputs of a run: files in any of the export formats, a parquet data set, or both in one folder."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf import exports
from cpgg_hf.dataset import DESCRIPTION_FILE, cine_row, shard_path, write_description, write_shard
from cpgg_hf.dataset.card import CARD_FILE, PLOT_FILE, write_card
from cpgg_hf.errors import RequestError
from cpgg_hf.files.policy_record import record_policy, recorded_policies
from cpgg_hf.files.staging import staged_file
from cpgg_hf.generation.generator import GeneratedCine
from cpgg_hf.generation.plan import PLAN_FILE
from cpgg_hf.generation.verification import Verification
from cpgg_hf.phenotypes import NAMES, write_csv
from cpgg_hf.shards import Shard
from cpgg_hf.shards.engine import RECORDS_FOLDER

PARQUET = "parquet"
TABLE_FILE, LIST_FILE = "phenotypes.csv", "cines.json"
_COLUMNS = ("seed", "spacing_mm", "frame_time_ms", "phenotypes", "measured", "attempt")


def format_names() -> tuple[str, ...]:
    """All formats: those of `cpgg_hf.exports`, and parquet."""
    return (*exports.formats(), PARQUET)


class Outputs:
    """The files of a run in a folder.

    Args:
        folder: created if missing.
        formats: among `format_names()`.

    Raises:
        RequestError: no format, or an unknown one.
    """

    def __init__(self, folder: Path, formats: Sequence[str]) -> None:
        unknown = set(formats) - set(format_names())
        if unknown or not formats:
            given = f"unknown format {min(unknown)!r}" if unknown else "no format given"
            raise RequestError(f"{given}; expected some of {', '.join(format_names())}.")
        self.folder = folder
        self.formats = tuple(name for name in format_names() if name in formats)
        self._exports = [name for name in self.formats if name != PARQUET]  # one file per cine

    def shards(self, split: str, num_cines: int, shard_size: int) -> tuple[Shard, ...]:
        """The shards of a run, each with the names of all its files."""
        count = -(-num_cines // shard_size)
        shards = []
        for number in range(count):
            parquet = shard_path(self.folder, split, number, count)
            first, last = number * shard_size, min((number + 1) * shard_size, num_cines)
            stems = [self._stem(index) for index in range(first, last)]
            files = [exports.export_path(stem, name).name for stem in stems for name in self._exports]
            files.append(parquet.name if PARQUET in self.formats else _records_name(parquet.stem))
            shards.append(Shard(parquet.stem, split, first, last, tuple(files)))
        return tuple(shards)

    def write(self, shard: Shard, cines: Sequence[GeneratedCine]) -> None:
        """Write the files of a shard."""
        for index, generated in enumerate(cines, start=shard.first):
            exports.write_cine(self._stem(index), generated.cine, self._exports)
        rows = [cine_row(made.cine, measured=made.measured, attempt=made.attempt) for made in cines]
        if PARQUET in self.formats:
            write_shard(rows, self.folder / f"{shard.name}.parquet")
            return
        with staged_file(self.folder / _records_name(shard.name)) as partial:
            partial.write_text(json.dumps([{name: row[name] for name in _COLUMNS} for row in rows]), encoding="utf-8")

    def finish(
        self, shards: Sequence[Shard], verification: Verification | None, data_policy: str, **details: Any
    ) -> None:
        """Describe the outputs, when all shards are complete, and remove temporary files of killed processes.

        A data set gets its description and card. Files get `phenotypes.csv`, one row per cine, and `cines.json` with
        the name, seed, spacing, frame time and measured phenotypes of each cine.

        Args:
            shards: shards of the run.
            verification: verification of the run.
            data_policy: policy of the run, recorded for all files.
            details: for `dataset.json`.
        """
        for place in (self.folder, self.folder / RECORDS_FOLDER):
            for path in place.glob(".*.partial*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if self._exports and not all((self.folder / name).is_file() for name in (TABLE_FILE, LIST_FILE)):
            self._write_lists([record for shard in shards for record in self._records(shard)])
        if PARQUET in self.formats and not (self.folder / DESCRIPTION_FILE).is_file():
            if verification is not None:
                records = (record for shard in shards for record in self._records(shard))
                details["verification"] = verification.summary(records)
            write_description(self.folder, source="cpgg", data_policy=data_policy, **details)
        if PARQUET in self.formats and not (self.folder / CARD_FILE).is_file():
            write_card(self.folder)
        names = [PLAN_FILE, TABLE_FILE, LIST_FILE, DESCRIPTION_FILE, CARD_FILE, PLOT_FILE]
        names += [name for shard in shards for name in shard.files]
        paths = [self.folder / name for name in names]
        files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
        unlisted = [path for path, known in recorded_policies(self.folder, files).items() if known is None]
        if unlisted:
            record_policy(self.folder, data_policy, unlisted)

    def _write_lists(self, records: list[dict[str, Any]]) -> None:
        with staged_file(self.folder / TABLE_FILE) as partial:
            write_csv(np.array([record["phenotypes"] for record in records]), partial)
        content = []
        for index, record in enumerate(records):
            described = {name: record[name] for name in ("seed", "spacing_mm", "frame_time_ms", "attempt")}
            if record["measured"] is not None:
                found = zip(NAMES, record["measured"], strict=True)
                described["measured"] = {name: value for name, value in found if np.isfinite(value)}
            content.append({"name": self._stem(index).name, **described})
        with staged_file(self.folder / LIST_FILE) as partial:
            partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def _records(self, shard: Shard) -> Iterator[dict[str, Any]]:
        """The `_COLUMNS` of each cine of a shard."""
        if PARQUET not in self.formats:
            yield from json.loads((self.folder / _records_name(shard.name)).read_text(encoding="utf-8"))
            return
        import pyarrow.parquet as pq

        yield from pq.read_table(self.folder / f"{shard.name}.parquet", columns=list(_COLUMNS)).to_pylist()

    def _stem(self, index: int) -> Path:
        return self.folder / f"cine_{index:05d}"


def _records_name(shard_name: str) -> str:
    return f"{RECORDS_FOLDER}/{shard_name}.cines.json"
