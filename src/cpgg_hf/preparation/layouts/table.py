"""Any other collection: a CSV table with one row per subject.

    subject, path, rr_ms, LVEDV, 24101-2.0, ...

`path` is a NIfTI file (of a stack, the middle slice is used) or a DICOM folder of one series, relative to the
table's folder or absolute. `rr_ms`, the length of the heart beat, is optional. Every other column is a phenotype,
by its name, field number or UK Biobank column; empty cells are missing, and values that follow from the given ones are
filled in.
"""

from functools import partial
from pathlib import Path

from cpgg_hf.errors import InputError, PhenotypeError
from cpgg_hf.phenotypes import phenotype_index
from cpgg_hf.preparation.layouts.subject import Layout, Subject, known_phenotypes, read_table, refuse
from cpgg_hf.scans import read_scan

_OWN_COLUMNS = ("subject", "path", "rr_ms")


def _find(table: Path, _view: str, rr_ms: float | None) -> list[Subject]:
    """One subject per row; a row with implausible phenotypes or heart beat is excluded when it is read."""
    rows = read_table(table, "subject", "path")
    for column in rows[0] if rows else ():
        if column not in _OWN_COLUMNS:
            try:
                phenotype_index(column)
            except PhenotypeError as error:
                raise InputError(f"{table}: {error}") from None
    return [_subject(row, table.parent, rr_ms) for row in rows]


def _subject(row: dict[str, str], folder: Path, assumed_rr_ms: float | None) -> Subject:
    values = {name: value for name, value in row.items() if name not in _OWN_COLUMNS}
    try:
        stated = float(row["rr_ms"]) if row.get("rr_ms") else None
        phenotypes = known_phenotypes(values) if values else None
    except ValueError as error:  # PhenotypeError is one
        return Subject(row["subject"], partial(refuse, f"the table's row cannot be used: {str(error).rstrip('.')}."))
    path = str(folder / row["path"])
    read = partial(read_scan, path, stated, middle_slice=True, assumed_rr_ms=assumed_rr_ms)
    return Subject(row["subject"], read, phenotypes)


TABLE = Layout("table", _find, is_file=True)
