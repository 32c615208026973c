"""Read fields 24100-24181 from a UK Biobank table with many other columns and half a million rows."""

import csv
import os
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np

from cpgg_hf.errors import InputError, PhenotypeError, brief
from cpgg_hf.phenotypes import NAMES, PHENOTYPES, as_array

_EID_COLUMNS = ("eid", "f.eid", "participant.eid")
_FIELDS = frozenset(phenotype.field_id for phenotype in PHENOTYPES)
# `24100-2.0`, `f.24100.2.0`, `p24100_i2` (also `participant.p24100_i2`): field and instance.
_FORMS = (
    re.compile(r"(\d{5})-(\d+)\.\d+"),
    re.compile(r"f\.(\d{5})\.(\d+)\.\d+"),
    re.compile(r"(?:participant\.)?p(\d{5})_i(\d+)(?:_a\d+)?"),
)


def read_ukb_phenotypes(
    path: str | os.PathLike[str], eids: Collection[str], instance: int = 2
) -> dict[str, np.ndarray | InputError]:
    """The phenotypes of some participants.

    Args:
        path: CSV or TSV with one row per participant, in any order; other columns are ignored.
        eids: the participants wanted, at least one.
        instance: the imaging visit: 2 is the first, 3 the repeat.

    Returns:
        For each of `eids` in the table (82,) float64 in physical units, NaN = missing; or, if its row cannot be used,
        the error: values that are not numbers or in the wrong unit, or a second row that differs.

    Raises:
        InputError: no such table, no column of participants, no phenotypes of this instance, no row of any of
            the participants.
    """
    path = Path(path)
    rows: dict[str, list[list[str]]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            separator = "\t" if "\t" in file.readline() else ","
            file.seek(0)
            reader = csv.reader(file, delimiter=separator)
            header = [name.strip() for name in next(reader, [])]
            eid_column, columns = _columns_of(header, instance, path)
            for row in reader:
                # Tables written from floats contain `1234567.0`.
                eid = row[eid_column].strip().removesuffix(".0") if len(row) > eid_column else ""
                if eid in eids:
                    rows.setdefault(eid, []).append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a CSV or TSV table ({brief(error)}); export it again.") from None
    if not rows:
        raise InputError(
            f"{path} has a row for none of the {len(eids)} participants, whose numbers are expected in the column "
            f"{header[eid_column]!r}, as 1234567 or 1234567.0, next to {len(columns)} columns of phenotypes such as "
            f"{header[min(columns)]!r}; give the table of the same application (each application has its own EIDs)."
        )
    return {eid: _one_vector(found, columns, len(header), path) for eid, found in rows.items()}


def _columns_of(names: list[str], instance: int, path: Path) -> tuple[int, dict[int, str]]:
    """The index of the participants' column, and the field of each column of phenotypes."""
    identifying = [index for index, name in enumerate(names) if name.lower() in _EID_COLUMNS]
    if len(identifying) != 1:
        raise InputError(
            f"{path} has {len(identifying)} columns of participants, expected one, called {', '.join(_EID_COLUMNS)}."
        )
    columns: dict[int, str] = {}
    for index, name in enumerate(names):
        match = next((found for form in _FORMS if (found := form.fullmatch(name))), None)
        if match is None or int(match[1]) not in _FIELDS or int(match[2]) != instance:
            continue
        if match[1] in columns.values():
            raise InputError(f"{path} has two columns of field {match[1]}, instance {instance}; keep one.")
        columns[index] = match[1]
    if not columns:
        first = PHENOTYPES[0].field_id
        raise InputError(
            f"{path} has no column of the fields {first} to {PHENOTYPES[-1].field_id} for instance {instance}; "
            f"expected names such as {first}-{instance}.0, f.{first}.{instance}.0 or p{first}_i{instance}."
        )
    return identifying[0], columns


def _one_vector(
    rows: list[list[str]], columns: dict[int, str], num_columns: int, path: Path
) -> np.ndarray | InputError:
    vectors = []
    for row in rows:
        if len(row) != num_columns:
            return InputError(
                f"{path}: the participant's row has {len(row)} values, expected {num_columns}; export the table again."
            )
        try:
            vectors.append(as_array({field: row[index] for index, field in columns.items()})[0])
        except PhenotypeError as error:
            return InputError(f"{path}: {str(error).removeprefix('row 0: ')}")
    for vector in vectors[1:]:
        differing = np.flatnonzero(~((vector == vectors[0]) | (np.isnan(vector) & np.isnan(vectors[0]))))
        if len(differing):
            return InputError(
                f"{path} has {len(rows)} rows of this participant that differ, first in {NAMES[differing[0]]}; "
                "keep one of them."
            )
    return vectors[0]
