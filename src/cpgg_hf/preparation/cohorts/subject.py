"""What is done to one subject of a cohort: read, judge the view, bring onto the grid, make a row and a thumbnail."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.dataset import cine_row
from cpgg_hf.errors import InputError, PhenotypeError, brief
from cpgg_hf.grid import GRID_SIZE
from cpgg_hf.optional import import_optional
from cpgg_hf.preparation.cohorts.redaction import redact
from cpgg_hf.preparation.grid.prepare import PreparedCine, normalise, prepare_series, to_display_orientation
from cpgg_hf.preparation.grid.view import judge_view, require_view
from cpgg_hf.preparation.layouts.subject import Subject
from cpgg_hf.scans.series import CineSeries

_WITHOUT_ROW = "the table of phenotypes has no row for this subject; all its phenotypes are missing."


@dataclass(frozen=True)
class Task:
    """One subject to prepare, with all that it takes.

    Attributes:
        subject: whom to read.
        pseudonym: the subject's name in the data set.
        split: the split the subject belongs to.
        view: "4ch" sets planes aside that look like another view; "any" takes every plane.
        data_policy: as in `cine_row`.
        turn_upright: mirror a four-chamber cine so that it stands as phantoms do.
        segmenter: folder of the field segmenter that finds the heart; None: it is found by its motion.
    """

    subject: Subject
    pseudonym: str
    split: str
    view: str
    data_policy: str
    turn_upright: bool
    segmenter: str | None = None


@dataclass(frozen=True)
class Result:
    """What became of a subject.

    Attributes:
        record: its entry in `report.json`: subject, split, view, warnings, seconds by step, and the reason where it
            was set aside.
        row: its row in the data set; None where it was set aside.
        thumbnail: PNG, end-diastole and end-systole side by side; None where nothing could be read.
    """

    record: dict[str, Any]
    row: dict[str, Any] | None = None
    thumbnail: bytes | None = None


def prepare_subject(task: Task) -> Result:
    """Prepare one subject; whatever is wrong with it becomes the reason why it was set aside.

    Raises:
        ImportError: a library is missing, which concerns every subject.
    """
    record = empty_record(task.pseudonym, task.split)
    series = row = reason = picture = None
    try:
        with _timed(record, "read"):
            series = task.subject.read()
        with _timed(record, "view"):
            judgement = judge_view(series.normal)
            record["view"] = judgement.view
            notes = require_view(judgement, task.view, series.origin)
        with _timed(record, "prepare"):
            prepared = bring_onto_grid(series, task)
        with _timed(record, "row"):
            row = cine_row(
                Cine(
                    pixels=prepared.cine,
                    spacing_mm=(prepared.spacing_mm, prepared.spacing_mm),
                    frame_time_ms=prepared.frame_time_ms,
                    subject=task.pseudonym,
                    source=task.subject.source or series.source,
                    data_policy=task.data_policy,
                    view=judgement.view,
                    phenotypes=task.subject.phenotypes,
                )
            )
        record["source"] = row["source"]
        picture = prepared.cine
        notes += (_WITHOUT_ROW,) if task.subject.without_row else ()
        record["warnings"] = [redact(note, task.subject, series.origin) for note in (*notes, *prepared.warnings)]
    except ImportError:
        raise
    except (InputError, PhenotypeError) as error:
        reason = str(error)
    except OSError as error:
        reason = f"a file cannot be read ({error.strerror or brief(error)}); check it and its permissions."
    except Exception as error:  # one damaged subject must not stop the others, whatever it breaks
        reason = f"it cannot be read or prepared ({type(error).__name__}: {brief(error)})."
    if reason is not None:
        record["reason"] = redact(reason, task.subject, "" if series is None else series.origin)
        picture = None if series is None else normalise(_middle(series.frames))
    with _timed(record, "thumbnail"):
        thumbnail = None if picture is None else thumbnail_png(picture)
    return Result(record, row, thumbnail)


def exclude(task: Task, reason: str) -> Result:
    """The result of a subject that could not even be tried."""
    return Result(empty_record(task.pseudonym, task.split) | {"reason": reason})


def empty_record(pseudonym: str, split: str | None) -> dict[str, Any]:
    """A subject's entry in `report.json`, before anything is known."""
    return {"subject": pseudonym, "split": split, "view": None, "warnings": [], "seconds": {}}


def bring_onto_grid(series: CineSeries, task: Task) -> PreparedCine:
    """The one place that finds the heart and crops around it."""
    series = to_display_orientation(series) if task.turn_upright else series
    if task.segmenter is None:
        return prepare_series(series)
    from cpgg_hf.preparation.grid.heart_segmentation import load_scan_segmenter, one_thread

    with one_thread():
        return prepare_series(series, segmenter=load_scan_segmenter(task.segmenter), view=task.view)


def thumbnail_png(cine: np.ndarray) -> bytes:
    """A picture of a cine (T, H, W) in [0, 1]: the first frame (ED), and the one that differs most from it (near ES).

    Returns:
        an 8-bit grey PNG, at most 96 pixels high.
    """
    image_module = import_optional("PIL.Image", "pictures")
    change = np.abs(cine - cine[:1]).mean(axis=(1, 2))
    pair = np.hstack([cine[0], cine[int(change.argmax())]])
    image = image_module.fromarray(np.round(pair * 255).astype(np.uint8))
    image.thumbnail((image.width, GRID_SIZE))
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


def _middle(frames: np.ndarray) -> np.ndarray:
    """The middle half of a field as acquired: names that a scanner wrote into a picture stand at its edges."""
    height, width = frames.shape[1:]
    return frames[:, height // 4 : height - height // 4, width // 4 : width - width // 4]


@contextmanager
def _timed(record: dict[str, Any], step: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        record["seconds"][step] = round(time.perf_counter() - start, 4)
