"""Prepare a cohort as one data set: in parallel, resumable after a kill, with a report on every subject.

Chunks of subjects, sorted by split and pseudonym, are the shards of a plan (`cpgg_hf.shards`) in a hidden work folder.
At the end they are assembled into the parquet shards of the data set; `dataset.json` appears last, and the work folder
is removed.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from cpgg_hf.dataset import DESCRIPTION_FILE, SPLITS, shard_path, write_description, write_shard
from cpgg_hf.dataset.card import write_card
from cpgg_hf.errors import InputError, OutputError
from cpgg_hf.files.policy_record import record_policy, recorded
from cpgg_hf.files.staging import disk_full_as_error, staged_folder
from cpgg_hf.grid import SPACING_MM
from cpgg_hf.preparation.cohorts import TIME_LIMIT_S
from cpgg_hf.preparation.cohorts.plan import CohortPlan, make_plan
from cpgg_hf.preparation.cohorts.pseudonyms import read_key
from cpgg_hf.preparation.cohorts.report import REPORT_FILE, THUMBNAIL_FOLDER, make_report, write_report
from cpgg_hf.preparation.cohorts.subject import Result, Task, empty_record, prepare_in_time
from cpgg_hf.preparation.layouts.subject import Subject
from cpgg_hf.shards import keep_plan, locked, make_shards_in_processes, run_alone

_WORK_FOLDER = ".cohort"
_KILLED = (
    "the process that prepared it was killed twice, the second time with nothing else running; most likely the "
    "memory ran out, or a library crashed on its files."
)
_TOO_LONG = "preparing it took longer than {:g} s, twice; check its files, or raise --time-limit."
_CINES_PER_SHARD = 250
_DAY_S = 86400
_PLAN_FILE = "plan.json"
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
    turn_upright: bool = False,
    segmenter: str | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    progress: bool = True,
) -> dict[str, Any]:
    """Prepare every subject; the same call resumes an interrupted run.

    Args:
        subjects: subjects to prepare; duplicate identifiers are ignored.
        out: folder of the data set: new, empty, or as an interrupted call left it.
        key_file: secret key of the pseudonyms, outside `out`; created if missing. See `pseudonyms`.
        view: "4ch" excludes planes that look like another view; "any" takes every plane.
        num_processes: processes to use; the data set is the same for any number.
        data_policy: "restricted" (patients' data, never published) or "public" (a public collection). It does not
            affect pseudonyms.
        turn_upright: mirror four-chamber cines to the orientation of the phantoms, see `to_display_orientation`.
        segmenter: folder of a scan segmenter, which locates the hearts and checks the view. None, the default, locates
            them by their motion. (`cpgg prepare` uses the checkpoint's network unless `--segmenter none` is given.)
        time_limit_s: seconds after which a subject is given up: it is tried once more, alone, and then excluded.
        progress: whether to show a progress bar.

    Returns:
        The content of `report.json`, see `make_report`.

    Raises:
        InputError: no subjects, an unusable key file, or a finished data set of other subjects or settings.
        RequestError: `out` was started with other subjects or settings.
        OutputError: `out` has other content, cannot be written, its disk is full, another run is active in it, or this
            is called by a script without `if __name__ == "__main__":`, which worker processes cannot import.
    """
    if view not in ("4ch", "any"):
        raise ValueError(f"unknown view {view!r}; expected '4ch' or 'any'.")
    if data_policy not in ("restricted", "public"):
        raise ValueError(f"unknown data_policy {data_policy!r} of a cohort; expected 'restricted' or 'public'.")
    if num_processes < 1:
        raise ValueError(f"num_processes must be at least 1, given {num_processes}.")
    if not 0 < time_limit_s <= _DAY_S:
        raise ValueError(f"time_limit_s must be above 0 and at most {_DAY_S}, given {time_limit_s}.")
    out = Path(out)
    _check_out(out)
    plan = make_plan(subjects, read_key(key_file, out), view, data_policy, turn_upright, segmenter)
    if not plan.chunks.num_items:
        raise InputError("the cohort has no subjects; check the folder and its layout.")
    if not (out / DESCRIPTION_FILE).is_file():
        work = out / _WORK_FOLDER
        with locked(work, "cohort"), disk_full_as_error(out):
            keep_plan(work / _PLAN_FILE, plan.chunks.settings)
            _prepare_chunks(plan, work, num_processes, time_limit_s, progress)
            _assemble(plan, out, work)
    report = _finished_report(plan, out)
    shutil.rmtree(out / _WORK_FOLDER, ignore_errors=True)
    return report


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give a folder.")
    ours = (out / _WORK_FOLDER).is_dir() or (out / DESCRIPTION_FILE).is_file()
    if out.is_dir() and any(out.iterdir()) and not ours:
        raise OutputError(f"{out} exists and is not empty; give a new folder, or delete it first.")


def _prepare_chunks(plan: CohortPlan, work: Path, num_processes: int, time_limit_s: float, progress: bool) -> None:
    in_time = partial(prepare_in_time, time_limit_s=time_limit_s)
    alone = partial(_prepare_alone, time_limit_s=time_limit_s)
    with tqdm(total=plan.chunks.num_items, unit="subject", desc="preparing", disable=not progress) as bar:
        make_shards_in_processes(
            work,
            plan.chunks,
            lambda chunk: partial(_write_chunk, plan.tasks_of(chunk), in_time),
            num_processes,
            after_crash=lambda chunk, path: _write_chunk(plan.tasks_of(chunk), alone, path),
            on_shard=lambda chunk: bar.update(len(chunk)),
        )


def _write_chunk(tasks: Sequence[Task], prepare: Callable[[Task], Result], folder: Path) -> None:
    results = [prepare(task) for task in tasks]
    with staged_folder(folder) as partial_folder:
        write_shard([result.row for result in results if result.row is not None], partial_folder / _ROWS_FILE)
        records = [result.record for result in results]
        (partial_folder / _RECORDS_FILE).write_text(json.dumps(records), encoding="utf-8")
        for result in results:
            if result.thumbnail is not None:
                (partial_folder / f"{result.record['subject']}.png").write_bytes(result.thumbnail)


def _prepare_alone(task: Task, time_limit_s: float) -> Result:
    """Prepare a subject in a process of its own; it is excluded if the process dies."""
    started = time.monotonic()
    try:
        return run_alone(prepare_in_time, task, time_limit_s)
    except BrokenProcessPool:
        too_long = time.monotonic() - started >= time_limit_s
        reason = _TOO_LONG.format(time_limit_s) if too_long else _KILLED
        return Result(empty_record(task.pseudonym, task.split) | {"reason": reason})


def _assemble(plan: CohortPlan, out: Path, work: Path) -> None:
    """Build shards, report, description and card in the work folder, then move them; the description last."""
    finished, thumbnails = work / _FINISHED_FOLDER, out / THUMBNAIL_FOLDER
    shutil.rmtree(finished, ignore_errors=True)
    finished.mkdir()
    thumbnails.mkdir(exist_ok=True)
    records = []
    for split in SPLITS:
        folders = [work / chunk.name for chunk in plan.chunks.shards if chunk.group == split]
        of_split = [record for folder in folders for record in _read_json(folder / _RECORDS_FILE)]
        num_cines = sum("reason" not in record for record in of_split)
        num_shards = -(-num_cines // _CINES_PER_SHARD)
        rows = _rows(folders)
        for shard in range(num_shards):
            write_shard(islice(rows, _CINES_PER_SHARD), shard_path(finished, split, shard, num_shards))
        for folder in folders:
            for path in folder.glob("*.png"):
                shutil.copyfile(path, thumbnails / path.name)
        records += of_split
    policy = plan.settings["data_policy"]
    with recorded(finished, policy):
        write_report(make_report(plan, records), finished, thumbnails)
    record_policy(thumbnails, policy, [*thumbnails.iterdir()])
    write_description(
        finished,
        source=", ".join(sorted({record["source"] for record in records if "reason" not in record})),
        spacing_mm=SPACING_MM,
        data_policy=policy,
        view=plan.settings["view"],
        shares=plan.settings["shares"],
    )
    write_card(finished)
    for path in sorted(finished.iterdir(), key=lambda path: path.name == DESCRIPTION_FILE):
        path.replace(out / path.name)


def _rows(folders: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The rows of all chunks; at most one chunk is in memory."""
    import pyarrow.parquet as pq

    for folder in folders:
        yield from pq.read_table(folder / _ROWS_FILE).to_pylist()


def _finished_report(plan: CohortPlan, out: Path) -> dict[str, Any]:
    """The report of the data set in `out`, if this plan made it."""
    path = out / REPORT_FILE
    report = _read_json(path) if path.is_file() else {}
    if report.get("plan") != plan.digest:
        raise InputError(
            f"{out} holds a finished data set of other subjects or settings; choose another folder, or delete it."
        )
    return report


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
