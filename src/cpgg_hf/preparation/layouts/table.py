"""Any other collection: a CSV table with one row a subject.

    subject, path, rr_ms, LVEDV, 24101-2.0, ...

`path` is a NIfTI file (of a stack, the middle slice is taken) or a DICOM folder of one series, relative to the
table's folder or absolute. `rr_ms`, the length of the heart beat, may be left out or empty. Every further column is a
phenotype, by its name, field number or UK Biobank column; empty cells are missing, and what the given ones determine
is filled in.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cpgg_hf.errors import InputError, PhenotypeError
from cpgg_hf.phenotypes import phenotype_index
from cpgg_hf.preparation.layouts.reading import known_phenotypes, read_table, refuse
from cpgg_hf.preparation.layouts.subject import Subject
from cpgg_hf.scans.dicom import read_dicom_folder
from cpgg_hf.scans.nifti import read_nifti
from cpgg_hf.scans.series import CineSeries

_OWN_COLUMNS = ("subject", "path", "rr_ms")


def find_table_subjects(table: Path, rr_ms: float | None = None) -> list[Subject]:
    """A subject for each row; a row whose phenotypes or heart beat make no sense is set aside when it is read."""
    rows = read_table(table, "subject", "path")
    for column in rows[0] if rows else ():
        if column not in _OWN_COLUMNS:
            try:
                phenotype_index(column)
            except PhenotypeError as error:
                raise InputError(f"{table}: {error}.") from None
    return [_subject(row, table.parent, rr_ms) for row in rows]


def _subject(row: dict[str, str], folder: Path, assumed_rr_ms: float | None) -> Subject:
    values = {name: value for name, value in row.items() if name not in _OWN_COLUMNS}
    try:
        stated = float(row["rr_ms"]) if row.get("rr_ms") else None
        phenotypes = known_phenotypes(values) if values else None
    except ValueError as error:  # PhenotypeError is one
        return Subject(row["subject"], partial(refuse, f"the table's row cannot be used: {error}."), source="table")
    read = partial(read_row, str(folder / row["path"]), stated, assumed_rr_ms)
    return Subject(row["subject"], read, phenotypes, source="table")


def read_row(path: str, rr_ms: float | None, assumed_rr_ms: float | None) -> CineSeries:
    """The cine of a row: a DICOM folder, or a NIfTI file."""
    if Path(path).is_dir():
        return read_dicom_folder(path, rr_ms)
    return read_nifti(path, rr_ms, middle_slice=True, assumed_rr_ms=assumed_rr_ms)
