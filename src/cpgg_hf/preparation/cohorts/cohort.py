"""A whole cohort into one data set: in parallel, resumable after a kill, with a report of every subject.

The subjects, named by pseudonyms and sorted by split and pseudonym, are cut into fixed chunks. A finished chunk
appears whole in the hidden work folder, so what was finished before a kill is finished for good. At the end the chunks
are strung together into shards, `dataset.json` is moved into place last, and the work folder goes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from cpgg_hf.dataset import DESCRIPTION_FILE, SPLITS, shard_path, write_description, write_shard
from cpgg_hf.dataset.card import write_card
from cpgg_hf.errors import InputError
from cpgg_hf.files.staging import disk_full_as_error, staged_folder
from cpgg_hf.grid import SPACING_MM
from cpgg_hf.optional import import_optional
from cpgg_hf.preparation.cohorts.plan import Plan, make_plan
from cpgg_hf.preparation.cohorts.pseudonyms import SHARES, check_shares, read_key
from cpgg_hf.preparation.cohorts.report import REPORT_FILE, THUMBNAIL_FOLDER, make_report, write_report
from cpgg_hf.preparation.cohorts.subject import Result
from cpgg_hf.preparation.cohorts.work_folder import WORK_FOLDER, check_out, work_folder
from cpgg_hf.preparation.cohorts.workers import prepare_chunks
from cpgg_hf.preparation.layouts.subject import Subject

_CINES_A_SHARD = 250
_ROWS_FILE = "rows.parquet"
_RECORDS_FILE = "records.json"
_FINISHED_FOLDER = "finished"


def prepare_cohort(
    subjects: Iterable[Subject],
    out: str | os.PathLike[str],
    key_file: str | os.PathLike[str],
    *,
    view: str = "4ch",
    num_processes: int = 1,
    data_policy: str = "restricted",
    shares: Sequence[float] = SHARES,
    turn_upright: bool = False,
    segmenter: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Prepare every subject; called again after an interruption, it goes on with what is missing.

    Args:
        subjects: whom to prepare; of two of the same identifier the first counts.
        out: the data set's folder: new, empty, or as an interrupted call left it.
        key_file: the secret key of the pseudonyms, outside `out`; made when there is none. See `pseudonyms`.
        view: "4ch" sets planes aside that look like another view; "any" takes every plane.
        num_processes: processes that work; the data set is the same for any number.
        data_policy: "restricted" (patients' data, never published) or "public" (of a public collection). It changes no
            pseudonym.
        shares: of the splits train, validation and test.
        turn_upright: mirror four-chamber cines so that they stand as phantoms do, see `to_display_orientation`.
        segmenter: folder of a field segmenter, which finds the hearts and checks the view. None, the default, finds
            them by their motion; `cpgg prepare` on the command line names the checkpoint's network instead, unless
            `--segmenter none` is given, so that the two differ by default.
        progress: whether to show a progress bar.

    Returns:
        The content of `report.json`, see `make_report`.

    Raises:
        InputError: no subjects, a key file that cannot be used, or `out` was begun with other subjects or
            settings.
        OutputError: `out` has other content, cannot be written, its disk is full, or another call is at work in it.
    """
    shares = check_shares(shares)
    if view not in ("4ch", "any"):
        raise ValueError(f"unknown view {view!r}; expected '4ch' or 'any'.")
    if data_policy not in ("restricted", "public"):
        raise ValueError(f"unknown data_policy {data_policy!r} of a cohort; expected 'restricted' or 'public'.")
    if num_processes < 1:
        raise ValueError(f"num_processes must be at least 1, given {num_processes}.")
    import_optional("PIL.Image", "pictures")
    out = Path(out)
    check_out(out)
    plan = make_plan(subjects, read_key(key_file, out), shares, view, data_policy, turn_upright, segmenter)
    if not plan.tasks:
        raise InputError("the cohort has no subjects; check the folder and its layout.")
    if not (out / DESCRIPTION_FILE).is_file():
        with disk_full_as_error(out), work_folder(out, plan) as work:
            _prepare_missing(plan, out, work, num_processes, progress)
            _assemble(plan, out, work)
    report = _finished_report(plan, out)
    shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)
    return report


def _prepare_missing(plan: Plan, out: Path, work: Path, num_processes: int, progress: bool) -> None:
    """Prepare and write every chunk that is not there yet."""
    chunks = [chunk for split in SPLITS for chunk in plan.chunks(split)]
    missing = [chunk for chunk in chunks if not (work / chunk.name).is_dir()]
    done = len(plan.tasks) - sum(len(chunk.tasks) for chunk in missing)
    (out / THUMBNAIL_FOLDER).mkdir(exist_ok=True)
    with tqdm(total=len(plan.tasks), initial=done, unit="subject", desc="preparing", disable=not progress) as bar:
        for chunk, results in prepare_chunks(missing, num_processes):
            _write_chunk(results, work / chunk.name, out / THUMBNAIL_FOLDER)
            bar.update(len(results))


def _write_chunk(results: Sequence[Result], folder: Path, thumbnails: Path) -> None:
    for result in results:
        if result.thumbnail is not None:
            (thumbnails / f"{result.record['subject']}.png").write_bytes(result.thumbnail)
    with staged_folder(folder) as partial:
        write_shard([result.row for result in results if result.row is not None], partial / _ROWS_FILE)
        records = [result.record for result in results]
        (partial / _RECORDS_FILE).write_text(json.dumps(records), encoding="utf-8")


def _assemble(plan: Plan, out: Path, work: Path) -> None:
    """Shards, report, description and card, made aside and moved into place; the description last."""
    finished = work / _FINISHED_FOLDER
    shutil.rmtree(finished, ignore_errors=True)
    finished.mkdir()
    records = []
    for split in SPLITS:
        folders = [work / chunk.name for chunk in plan.chunks(split)]
        of_split = [
            record for folder in folders for record in json.loads((folder / _RECORDS_FILE).read_text(encoding="utf-8"))
        ]
        num_cines = sum("reason" not in record for record in of_split)
        num_shards = -(-num_cines // _CINES_A_SHARD)
        rows = _rows(folders)
        for shard in range(num_shards):
            write_shard(islice(rows, _CINES_A_SHARD), shard_path(finished, split, shard, num_shards))
        records += of_split
    write_report(make_report(plan, records), finished, out / THUMBNAIL_FOLDER)
    write_description(
        finished,
        source=", ".join(sorted({record["source"] for record in records if "reason" not in record})),
        spacing_mm=SPACING_MM,
        data_policy=plan.settings["data_policy"],
        view=plan.settings["view"],
        shares=plan.settings["shares"],
    )
    write_card(finished)
    for path in sorted(finished.iterdir(), key=lambda path: path.name == DESCRIPTION_FILE):
        path.replace(out / path.name)


def _rows(folders: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The rows of chunks one after another; no more than one chunk is in memory."""
    import pyarrow.parquet as pq

    for folder in folders:
        yield from pq.read_table(folder / _ROWS_FILE).to_pylist()


def _finished_report(plan: Plan, out: Path) -> dict[str, Any]:
    """The report of the data set that lies in `out`, where this plan made it."""
    path = out / REPORT_FILE
    report = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if report.get("plan") != plan.digest():
        raise InputError(
            f"{out} holds a finished data set of other subjects or settings; choose another folder, or delete it."
        )
    return report
