"""Public collections of cine MRI, and a table for everything else: how each names its files and its subjects."""

from __future__ import annotations

import os
from pathlib import Path

from cpgg_hf.errors import InputError
from cpgg_hf.preparation.layouts.acdc import find_acdc_subjects
from cpgg_hf.preparation.layouts.kaggle import find_kaggle_subjects
from cpgg_hf.preparation.layouts.mnms import find_mnms_subjects
from cpgg_hf.preparation.layouts.mnms2 import find_mnms2_subjects
from cpgg_hf.preparation.layouts.subject import Subject
from cpgg_hf.preparation.layouts.sunnybrook import find_sunnybrook_subjects
from cpgg_hf.preparation.layouts.table import find_table_subjects
from cpgg_hf.scans.series import check_rr_ms

__all__ = ["LAYOUTS", "find_subjects"]

LAYOUTS = ("acdc", "mnms", "mnms2", "sunnybrook", "kaggle", "table")
_SHORT_AXIS_ONLY = ("acdc", "mnms", "sunnybrook")


def find_subjects(
    layout: str, source: str | os.PathLike[str], view: str = "4ch", rr_ms: float | None = None
) -> list[Subject]:
    """The subjects of a collection; nothing but tables is read yet.

    Args:
        layout: one of `LAYOUTS`.
        source: the collection's folder; for "table" the CSV file.
        view: "4ch", or "any" to take the middle short-axis slice where there is no four-chamber cine.
        rr_ms: length of the heart beat to assume, with a warning, for NIfTI files that state no usable frame time.

    Raises:
        InputError: no such folder, not of this layout, or short-axis only where four-chamber cines are asked
            for.
    """
    check_rr_ms(rr_ms)
    source = Path(source).absolute()
    if not (source.is_file() if layout == "table" else source.is_dir()):
        raise InputError(
            f"{source} is no {'CSV file' if layout == 'table' else 'folder'}, as the layout {layout} needs; check it."
        )
    if layout in _SHORT_AXIS_ONLY and view != "any":
        raise InputError(f"the layout {layout} holds short-axis stacks only; take their middle slice with --view any.")
    match layout:
        case "acdc":
            subjects = find_acdc_subjects(source, rr_ms)
        case "mnms":
            subjects = find_mnms_subjects(source, rr_ms)
        case "mnms2":
            subjects = find_mnms2_subjects(source, view, rr_ms)
        case "sunnybrook":
            subjects = find_sunnybrook_subjects(source)
        case "kaggle":
            subjects = find_kaggle_subjects(source, view)
        case "table":
            subjects = find_table_subjects(source, rr_ms)
        case _:
            raise ValueError(f"unknown layout {layout!r}; expected one of {', '.join(LAYOUTS)}.")
    if not subjects:
        raise InputError(f"{source} holds no subject in the layout {layout}; check the folder and the layout.")
    return subjects
