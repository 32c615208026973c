"""M&Ms-2, the multi-disease, multi-view, multi-centre challenge of 2021, as `MnM2`.

    MnM2/dataset_information.csv                SUBJECT_CODE (1, 2, ...), DISEASE, VENDOR, ...
    MnM2/dataset/001/001_LA_CINE.nii.gz         four-chamber cine
    MnM2/dataset/001/001_SA_CINE.nii.gz         short-axis stack over the beat

360 subjects. Single frames and labels (`_ED`, `_ES`, `_gt`) are not read; the cines are assumed to begin at
end-diastole. If headers have no usable frame time, give the RR interval to assume.
"""

from functools import partial
from pathlib import Path

from cpgg_hf.errors import InputError
from cpgg_hf.preparation.layouts.subject import Layout, Subject, read_nifti_slice, read_table
from cpgg_hf.scans.files import paths_below

_TABLE = "dataset_information.csv"


def _find(folder: Path, view: str, rr_ms: float | None) -> list[Subject]:
    """One subject per row of the table: the four-chamber cine, or with "any" the short axis if it is missing."""
    tables = [path for path in paths_below(folder) if path.match(_TABLE)]
    if not tables:
        raise InputError(f"{folder} has no table {_TABLE}; give the folder MnM2 of M&Ms-2.")
    subjects = []
    for row in read_table(tables[0], "SUBJECT_CODE"):
        code = row["SUBJECT_CODE"].removesuffix(".0").zfill(3)
        path = tables[0].parent / "dataset" / code / f"{code}_LA_CINE.nii.gz"
        if view == "any" and not path.is_file():
            path = path.with_name(f"{code}_SA_CINE.nii.gz")
        subjects.append(Subject(code, partial(read_nifti_slice, str(path), rr_ms)))
    return subjects


MNMS2 = Layout("mnms2", _find)
