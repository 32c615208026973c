"""M&Ms, the multi-centre, multi-vendor challenge of 2020, as `OpenDataset` (the release with diagnoses, 2021-12-30).

    OpenDataset/211230_M&Ms_Dataset_information_diagnosis_opendataset.csv     External code, ..., ED, ES (from 0), ...
    OpenDataset/Training/Labeled/A0S9V9/A0S9V9_sa.nii.gz                      short-axis stack over the beat
    OpenDataset/Training/Unlabeled/..., Validation/A5C2D2/..., Testing/A1K2P5/...

Short axis only: 345 subjects. `_sa_gt.nii.gz` are labels and are not read. If headers have no usable frame
time, give the RR interval to assume.
"""

from functools import partial
from pathlib import Path

from cpgg_hf.errors import InputError
from cpgg_hf.preparation.layouts.subject import Layout, Subject, read_nifti_slice, read_table, refuse
from cpgg_hf.scans.files import paths_below

_TABLE = "*M&Ms_Dataset_information*.csv"


def _find(folder: Path, _view: str, rr_ms: float | None) -> list[Subject]:
    """One subject per row of the table; the cine begins at the table's ED frame."""
    tables = [path for path in paths_below(folder) if path.match(_TABLE)]
    if not tables:
        raise InputError(f"{folder} has no table {_TABLE}; give the folder OpenDataset of M&Ms.")
    files = {path.name: path for path in paths_below(tables[0].parent) if path.match("*_sa.nii.gz")}
    rows = read_table(tables[0], "External code", "ED")
    return [Subject(row["External code"], _reader(row, files, rr_ms)) for row in rows]


def _reader(row: dict[str, str], files: dict[str, Path], rr_ms: float | None) -> partial:
    name = f"{row['External code']}_sa.nii.gz"
    if name not in files:
        return partial(refuse, "the table lists this subject, but its short-axis file is missing; copy it.")
    if not row["ED"].removesuffix(".0").isdecimal():
        return partial(refuse, "the table has no ED frame for this subject; fill it in.")
    return partial(read_nifti_slice, str(files[name]), rr_ms, first_frame=int(float(row["ED"])))


MNMS = Layout("mnms", _find, short_axis_only=True)
