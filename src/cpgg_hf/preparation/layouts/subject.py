"""`Subject`, one subject of a cohort before anything is read, and `Layout`, a collection that lists its subjects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpgg_hf.cine import Cine


@dataclass(frozen=True)
class Subject:
    """A subject and how to read its cine.

    Attributes:
        identifier: the subject's name in the input (an EID, a patient folder); it never leaves the machine.
        read: reads the cine; picklable (`functools.partial` of a module-level function); raises `InputError`.
        phenotypes: (82,) in physical units, NaN = missing; None = none is known.
        source: the collection: "ukb", "acdc", ...
        without_row: whether there is a table of phenotypes that has no row for this subject.
    """

    identifier: str
    read: Callable[[], Cine]
    phenotypes: np.ndarray | None = None
    source: str = ""
    without_row: bool = False


@dataclass(frozen=True)
class Layout:
    """How a collection of cines names its files and subjects; each layout is one file that defines one of these.

    Attributes:
        name: for `--layout`.
        find: lists the subjects, given the collection's path, the view ("4ch", or "any" to use the middle short-axis
            slice if there is no four-chamber cine) and the RR interval (ms) for NIfTI files without a usable frame
            time; reads only tables.
        short_axis_only: whether there are no four-chamber cines at all.
        is_file: whether the collection is given as a CSV file, not as a folder.
    """

    name: str
    find: Callable[[Path, str, float | None], list[Subject]]
    short_axis_only: bool = False
    is_file: bool = False
