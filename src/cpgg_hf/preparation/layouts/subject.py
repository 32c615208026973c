"""Shared by the layouts: `Subject`, `Layout`, and readers of NIfTI slices, tables and partial phenotypes."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import NoReturn

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.errors import InputError, PhenotypeError, brief
from cpgg_hf.phenotypes import as_array, complete_identities
from cpgg_hf.scans.nifti import read_nifti


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


def read_nifti_slice(path: str, assumed_rr_ms: float | None = None, first_frame: int = 0) -> Cine:
    """Read the only slice of a NIfTI cine, or the middle one of a stack.

    Args:
        path: a `.nii` or `.nii.gz` file.
        assumed_rr_ms: as in `read_nifti`.
        first_frame: index of the end-diastolic frame; the frames are rotated to begin with it.

    Raises:
        InputError: the file cannot be used, or has no such frame.
    """
    cine = read_nifti(path, middle_slice=True, assumed_rr_ms=assumed_rr_ms)
    if not 0 <= first_frame < len(cine):
        raise InputError(
            f"{path} has {len(cine)} frames, but the end-diastolic frame is given as {first_frame + 1}; "
            "check the collection's table."
        )
    if first_frame == 0:
        return cine
    note = f"{path}: begins at frame {first_frame + 1}, the collection's end-diastolic frame."
    return replace(cine, pixels=np.roll(cine.pixels, -first_frame, axis=0), warnings=(*cine.warnings, note))


def refuse(message: str) -> NoReturn:
    """The `read` of a subject that is known to be unusable before its files are read."""
    raise InputError(message)


def known_phenotypes(values: Mapping[str, object]) -> np.ndarray:
    """(82,) phenotypes, NaN = missing, from a few named ones; values that follow from them are filled in.

    Raises:
        PhenotypeError: unknown names, impossible values, or values that contradict each other.
    """
    try:
        return complete_identities(as_array(dict(values)))[0]
    except PhenotypeError as error:
        raise PhenotypeError(str(error).removeprefix("row 0: ")) from None


def read_table(path: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of a CSV file whose first required column is filled; cells are stripped of spaces.

    Raises:
        InputError: it cannot be read, or lacks one of the columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names, *rows = [[cell.strip() for cell in row] for row in csv.reader(file)] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a CSV table ({brief(error)}); export it again.") from None
    missing = [column for column in columns if column not in names]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]!r}, only {brief(', '.join(filter(None, names)) or 'none')}; expected "
            f"the columns {', '.join(columns)}."
        )
    named = (dict(zip_longest(names, row[: len(names)], fillvalue="")) for row in rows)
    return [row for row in named if row[columns[0]]]
