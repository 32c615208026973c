"""M&Ms-2, the multi-disease, multi-view, multi-centre challenge of 2021, as `MnM2`.

    MnM2/dataset_information.csv                SUBJECT_CODE (1, 2, ...), DISEASE, VENDOR, ...
    MnM2/dataset/001/001_LA_CINE.nii.gz         four-chamber cine
    MnM2/dataset/001/001_SA_CINE.nii.gz         short-axis stack over the beat

360 subjects. Single frames and labels (`_ED`, `_ES`, `_gt`) stay unread; the cines are taken to begin at end-diastole,
as no table says otherwise. Where the header states no usable frame time, give the length of the beat to assume.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cpgg_hf.errors import InputError
from cpgg_hf.preparation.layouts.reading import read_nifti_slice, read_table
from cpgg_hf.preparation.layouts.subject import Subject

_TABLE = "dataset_information.csv"


def find_mnms2_subjects(folder: Path, view: str = "4ch", rr_ms: float | None = None) -> list[Subject]:
    """A subject for each row of the table: the four-chamber cine, or with "any" the short axis where it is missing."""
    tables = sorted(folder.rglob(_TABLE))
    if not tables:
        raise InputError(f"{folder} has no table {_TABLE}; give the folder MnM2 of M&Ms-2.")
    subjects = []
    for row in read_table(tables[0], "SUBJECT_CODE"):
        code = row["SUBJECT_CODE"].removesuffix(".0").zfill(3)
        path = tables[0].parent / "dataset" / code / f"{code}_LA_CINE.nii.gz"
        if view == "any" and not path.is_file():
            path = path.with_name(f"{code}_SA_CINE.nii.gz")
        subjects.append(Subject(code, partial(read_nifti_slice, str(path), rr_ms), source="mnms2"))
    return subjects
