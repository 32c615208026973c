"""The registry of layouts: public collections of cine MRI, and a table for everything else."""

import os
from dataclasses import replace
from pathlib import Path

from cpgg_hf.errors import InputError
from cpgg_hf.preparation.layouts.acdc import ACDC
from cpgg_hf.preparation.layouts.kaggle import KAGGLE
from cpgg_hf.preparation.layouts.mnms import MNMS
from cpgg_hf.preparation.layouts.mnms2 import MNMS2
from cpgg_hf.preparation.layouts.subject import Subject
from cpgg_hf.preparation.layouts.sunnybrook import SUNNYBROOK
from cpgg_hf.preparation.layouts.table import TABLE
from cpgg_hf.scans.checks import check_rr_ms

LAYOUTS = {layout.name: layout for layout in (ACDC, MNMS, MNMS2, SUNNYBROOK, KAGGLE, TABLE)}


def find_subjects(
    layout: str, source: str | os.PathLike[str], view: str = "4ch", rr_ms: float | None = None
) -> list[Subject]:
    """The subjects of a collection; reads only tables.

    Args:
        layout: one of `LAYOUTS`.
        source: the collection's folder; for "table" the CSV file.
        view: "4ch", or "any" to use the middle short-axis slice if there is no four-chamber cine.
        rr_ms: RR interval (ms) to assume, with a warning, for NIfTI files without a usable frame time.

    Raises:
        InputError: no such folder, not of this layout, or only short-axis cines for "4ch".
    """
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; expected one of {', '.join(LAYOUTS)}.")
    check_rr_ms(rr_ms)
    chosen, source = LAYOUTS[layout], Path(source).absolute()
    if not (source.is_file() if chosen.is_file else source.is_dir()):
        kind = "CSV file" if chosen.is_file else "folder"
        raise InputError(f"{source} is not a {kind}, which the layout {layout} needs; check the path.")
    if chosen.short_axis_only and view != "any":
        raise InputError(f"the layout {layout} holds short-axis stacks only; use their middle slice with --view any.")
    subjects = chosen.find(source, view, rr_ms)
    if not subjects:
        raise InputError(f"{source} holds no subject in the layout {layout}; check the folder and the layout.")
    return [replace(subject, source=layout) for subject in subjects]
