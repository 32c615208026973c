"""Prepare one subject of a cohort: read it, check the view, bring it onto the grid, make a row and a thumbnail."""

import faulthandler
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cpgg_hf.cine import Cine
from cpgg_hf.dataset import cine_row
from cpgg_hf.dataset.rows import end_systole
from cpgg_hf.errors import InputError, PhenotypeError, advising_only, brief
from cpgg_hf.grid import GRID_SIZE
from cpgg_hf.preparation.cohorts.redaction import redact
from cpgg_hf.preparation.grid.prepare import prepare_scan, to_display_orientation
from cpgg_hf.preparation.grid.resampling import normalise
from cpgg_hf.preparation.grid.view import accepted_view, classify_view, require_view
from cpgg_hf.preparation.layouts.subject import Subject

_TIMED_BY_HEADERS = ("kaggle", "sunnybrook", "ukb")  # DICOM, for which no RR interval can be given
_WITHOUT_ROW = "the table of phenotypes has no row for this subject; all its phenotypes are missing."


@dataclass(frozen=True)
class Task:
    """One subject to prepare, with all settings.

    Attributes:
        subject: the subject, with its reader.
        pseudonym: the subject's name in the data set.
        split: the split the subject belongs to.
        view: "4ch" excludes planes that look like another view; "any" accepts every plane.
        data_policy: as in `cine_row`.
        turn_upright: whether to mirror a four-chamber cine, see `to_display_orientation`.
        segmenter: folder of the scan segmenter that locates the heart; None: by its motion.
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
    """The result for one subject.

    Attributes:
        record: its entry in `report.json`: subject, split, view, warnings, seconds by step, and the reason if it
            was excluded.
        row: its row in the data set; None if it was excluded.
        thumbnail: PNG, end-diastole and end-systole side by side; None if nothing could be read.
    """

    record: dict[str, Any]
    row: dict[str, Any] | None = None
    thumbnail: bytes | None = None


def prepare_in_time(task: Task, time_limit_s: float) -> Result:
    """`prepare_subject`, whose process ends if it takes longer: a library may hang where nothing else can stop it."""
    with Path(os.devnull).open("w") as nowhere:  # of the traceback
        faulthandler.dump_traceback_later(time_limit_s, exit=True, file=nowhere)
        try:
            return prepare_subject(task)
        finally:
            faulthandler.cancel_dump_traceback_later()


def prepare_subject(task: Task) -> Result:
    """Prepare one subject; any fault becomes the reason for its exclusion.

    Raises:
        ImportError: a library is missing, which affects every subject.
    """
    record = empty_record(task.pseudonym, task.split)
    scan = row = reason = picture = None
    options = {"--view"} if task.subject.source in _TIMED_BY_HEADERS else {"--view", "--rr-ms"}
    try:
        with _timed(record, "read"):
            scan = task.subject.read()
        with _timed(record, "view"):
            estimate = classify_view(scan.normal)
            record["view"] = accepted_view(estimate, task.view)
            notes = require_view(estimate, task.view, scan.origin)
        with _timed(record, "prepare"):
            cine = replace(
                bring_onto_grid(scan, task),
                subject=task.pseudonym,
                source=task.subject.source or scan.source,
                data_policy=task.data_policy,
                view=record["view"],
                phenotypes=task.subject.phenotypes,
            )
        with _timed(record, "row"):
            row = cine_row(cine)
        record["source"] = row["source"]
        picture = cine.pixels
        notes += (_WITHOUT_ROW,) if task.subject.without_row else ()
        said = [advising_only(note, options) for note in (*notes, *cine.warnings)]
        record["warnings"] = [redact(note, task.subject, scan.origin) for note in said]
    except ImportError:
        raise
    except (InputError, PhenotypeError) as error:
        reason = str(error)
    except OSError as error:
        reason = f"a file cannot be read ({error.strerror or brief(error)}); check it and its permissions."
    except Exception as error:  # one damaged subject must not stop the others, whatever it breaks
        reason = f"it cannot be read or prepared ({type(error).__name__}: {brief(error)})."
    if reason is not None:
        record["reason"] = redact(advising_only(reason, options), task.subject, "" if scan is None else scan.origin)
        picture = None if scan is None else normalise(_middle(scan.pixels))
    with _timed(record, "thumbnail"):
        thumbnail = None if picture is None else thumbnail_png(picture)
    return Result(record, row, thumbnail)


def empty_record(pseudonym: str, split: str | None) -> dict[str, Any]:
    """A subject's entry in `report.json`, before anything is known."""
    return {"subject": pseudonym, "split": split, "view": None, "warnings": [], "seconds": {}}


def bring_onto_grid(scan: Cine, task: Task) -> Cine:
    """Locate the heart as the task says, and bring the scan onto the grid."""
    scan = to_display_orientation(scan) if task.turn_upright else scan
    if task.segmenter is None:
        return prepare_scan(scan, view=task.view).cine
    from cpgg_hf.preparation.grid.heart_segmentation import load_scan_segmenter, one_thread

    with one_thread():
        return prepare_scan(scan, segmenter=load_scan_segmenter(task.segmenter), view=task.view).cine


def thumbnail_png(cine: np.ndarray) -> bytes:
    """A picture of a cine (T, H, W) in [0, 1]: the first frame (ED), and the one that differs most from it (near ES).

    Returns:
        an 8-bit grey PNG, at most 96 pixels high.
    """
    pair = np.hstack([cine[0], cine[end_systole(cine)]])
    image = Image.fromarray(np.round(pair * 255).astype(np.uint8))
    image.thumbnail((image.width, GRID_SIZE))
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


def _middle(frames: np.ndarray) -> np.ndarray:
    """The middle half of a field: a name that is written into the image stands at its edges."""
    height, width = frames.shape[1:]
    return frames[:, height // 4 : height - height // 4, width // 4 : width - width // 4]


@contextmanager
def _timed(record: dict[str, Any], step: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        record["seconds"][step] = round(time.perf_counter() - start, 4)
