"""One subject of a cohort, before anything is read: every layout and every biobank gives a list of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cpgg_hf.scans.series import CineSeries


@dataclass(frozen=True)
class Subject:
    """A subject and how to read its cine.

    Attributes:
        identifier: as the input names the subject (an EID, a patient folder); it never leaves the machine.
        read: reads the cine; picklable (`functools.partial` of a module-level function); raises `InputError`.
        phenotypes: (82,) in physical units, NaN = missing; None = nothing is known.
        source: where the cine comes from: "ukb", "acdc", ...
        without_row: whether there is a table of phenotypes that has no row for this subject.
    """

    identifier: str
    read: Callable[[], CineSeries]
    phenotypes: np.ndarray | None = None
    source: str = ""
    without_row: bool = False
