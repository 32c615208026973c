"""Phenotype tables in and out: every form becomes one (B, 82) float64 array in physical units.

Columns may have any order and are named by short name (in any case), field number or UK Biobank column name. NaN, None
and empty cells are missing values.
"""

import os
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cpgg_hf.errors import PhenotypeError, brief
from cpgg_hf.phenotypes.schema import NAMES, PHENOTYPES, phenotype_index
from cpgg_hf.phenotypes.units import check_magnitudes

if TYPE_CHECKING:
    import pandas

# These columns, which name the subject of a row, are skipped.
IDENTIFIER_COLUMNS = frozenset(["eid", "f.eid", "participant.eid", "subject", "subject_id"])

_NO_PHENOTYPE = "no column of the table is a phenotype; name at least one as `cpgg phenotypes` lists them."


def as_array(table: Any) -> np.ndarray:
    """Phenotypes as one array.

    Args:
        table: a dict (values: numbers or equally long lists), a list of dicts, a `pandas.DataFrame`, a
            `pandas.Series` of one heart or a list of them, an array or tensor (82,) or (B, 82), or a list of (82,)
            arrays or tensors; physical units, NaN or absent = missing.

    Returns:
        (B, 82) float64, in the order of `NAMES`.

    Raises:
        PhenotypeError: unknown or repeated columns, a table of other columns only, wrong shapes, no rows, values that
            are not numbers or are in a wrong unit (an LVEF of 0.55, a volume in litres, a negative volume).
    """
    array = parse_table(table)
    check_magnitudes(array)
    return array


def parse_table(table: Any) -> np.ndarray:
    """`as_array`, and its errors, without the check of magnitudes; for measured or sampled values."""
    if isinstance(table, Mapping):
        return _from_columns(table)
    if hasattr(table, "to_frame"):  # a series
        table = table.to_frame().T
    if hasattr(table, "columns") and hasattr(table, "iloc"):
        repeated = table.columns[table.columns.duplicated()]
        if len(repeated):
            raise PhenotypeError(f"column {reprlib.repr(str(repeated[0]))} is there twice; keep one.")
        columns = {column: table[column].to_list() for column in table.columns}
        return _from_columns(columns or {"subject": []})  # an index alone names no phenotype either
    if isinstance(table, Sequence) and not isinstance(table, str):
        if table and isinstance(table[0], Mapping):
            return _from_rows(table)
        if table and hasattr(table[0], "to_frame"):
            return np.concatenate([parse_table(row) for row in table])
        return _check_shape(_stack([_to_numpy(vector) for vector in table]))
    return _check_shape(_to_numpy(table))


def as_frame(array: Any, index: Any = None) -> "pandas.DataFrame":
    """(82,) or (B, 82) phenotypes as a data frame with `NAMES` as columns, its rows numbered or named by `index`."""
    import pandas

    return pandas.DataFrame(_check_shape(_to_numpy(array)), index=index, columns=list(NAMES))


def row_names(table: Any, num_samples: int | None = None) -> Any:
    """The subjects of a table's rows, for `as_frame`: a frame's index or a series' name, each `num_samples` times.

    None for tables whose rows have no names or are only numbered from 0.
    """
    index: Any = getattr(table.to_frame().T if hasattr(table, "to_frame") else table, "index", None)
    if not hasattr(index, "repeat") or (index.name is None and index.to_list() == list(range(len(index)))):
        return None
    return index.repeat(num_samples or 1)


def read_csv(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a CSV file with one column per phenotype and one row per subject into (B, 82) float64; see `as_array`.

    Columns that name the subject (`IDENTIFIER_COLUMNS`: `eid`, `subject`, ...) are skipped.

    Raises:
        PhenotypeError: not a CSV file, or as `as_array`.
        OSError: the file cannot be opened.
    """
    import pandas

    try:
        frame = pandas.read_csv(path, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pandas.errors.EmptyDataError, pandas.errors.ParserError, UnicodeDecodeError) as error:
        raise PhenotypeError(
            f"{os.fspath(path)} is not a readable CSV file with a header row ({brief(error)}); save it as UTF-8 CSV."
        ) from error
    # The header is read as data because pandas would rename a repeated column instead of reporting it.
    frame, frame.columns = frame.iloc[1:], frame.iloc[0]
    try:
        return as_array(frame)
    except PhenotypeError as error:
        raise PhenotypeError(f"{os.fspath(path)}: {error}") from error


def write_csv(array: Any, path: str | os.PathLike[str]) -> None:
    """Write (B, 82) phenotypes as CSV with `NAMES` as header; `read_csv` returns exactly the same numbers."""
    as_frame(array).to_csv(path, index=False)


def _to_numpy(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PhenotypeError(
            f"phenotypes of type {type(values).__name__} are not numeric ({brief(error)}); give a dict, a list of"
            f" dicts, a DataFrame or a (B, {len(NAMES)}) array."
        ) from error


def _stack(vectors: list[np.ndarray]) -> np.ndarray:
    shapes = {vector.shape for vector in vectors}
    if len(shapes) > 1:
        raise PhenotypeError(f"the phenotype vectors differ in shape, {sorted(shapes)}; give each ({len(NAMES)},).")
    return np.array(vectors)


def _check_shape(array: np.ndarray) -> np.ndarray:
    if array.shape == (len(NAMES),):
        return array[None]
    if array.size == 0:
        raise PhenotypeError("the table of phenotypes is empty; give at least one row.")
    if array.ndim != 2 or array.shape[1] != len(NAMES):
        raise PhenotypeError(
            f"phenotypes of shape {array.shape}, expected ({len(NAMES)},) or (B, {len(NAMES)}) in the order of"
            " cpgg_hf.phenotypes.NAMES; name the columns if only some are given."
        )
    return array


def _columns_of(names: Iterable[Any]) -> dict[int, Any]:
    columns: dict[int, Any] = {}
    for name in names:
        if str(name).strip().lower() in IDENTIFIER_COLUMNS:
            continue
        index = phenotype_index(name)
        if index in columns:
            other = str(columns[index])
            raise PhenotypeError(f"columns {other!r} and {str(name)!r} are both {NAMES[index]}; keep one.")
        columns[index] = name
    return columns


def _from_columns(table: Mapping[Any, Any]) -> np.ndarray:
    columns = _columns_of(table)
    if table and not columns:  # a table that names nothing at all asks for any heart
        raise PhenotypeError(_NO_PHENOTYPE)
    values = {index: _column_values(table[name]) for index, name in columns.items()}
    lengths = {len(column) for column in values.values()} or {1}
    if len(lengths) > 1:
        raise PhenotypeError(
            f"columns of different lengths {sorted(lengths)}; give one value per row in every column."
        )
    array = np.full((lengths.pop(), len(NAMES)), np.nan)
    for index, column in values.items():
        array[:, index] = [_number(value, index, row) for row, value in enumerate(column)]
    return _check_shape(array)


def _from_rows(rows: Sequence[Mapping[Any, Any]]) -> np.ndarray:
    array = np.full((len(rows), len(NAMES)), np.nan)
    found: set[int] = set()
    for row, values in enumerate(rows):
        if not isinstance(values, Mapping):
            raise PhenotypeError(f"row {row} is a {type(values).__name__} among dicts; give all rows as dicts.")
        found.update(columns := _columns_of(values))
        for index, name in columns.items():
            array[row, index] = _number(values[name], index, row)
    if any(rows) and not found:
        raise PhenotypeError(_NO_PHENOTYPE)
    return array


def _column_values(values: Any) -> Sequence[Any]:
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    if isinstance(values, np.ndarray) or hasattr(values, "to_list"):
        values = values.tolist()
    return values if isinstance(values, list | tuple) else [values]


def _number(value: Any, index: int, row: int) -> float:
    # pandas' NA prints as <NA>.
    if value is None or str(value).strip().lower() in ("", "na", "nan", "<na>"):
        return np.nan
    try:
        if isinstance(value, bool | np.bool_) or "_" in str(value):  # which `float` takes
            raise ValueError
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise PhenotypeError(
            f"row {row}: {NAMES[index]} = {reprlib.repr(value)} is not a number; give it in"
            f" {PHENOTYPES[index].unit}, or leave it out."
        ) from error
