"""Kaggle's Second Annual Data Science Bowl (2015/16), as the competition's archives unpack.

    train/train/1/study/4ch_17/IM-13420-0001.dcm         four-chamber cine, one folder per series; also 2ch_* and sax_*
    validate/validate/501/study/..., test/test/701/study/...
    train.csv, validate.csv                              Id, Systole, Diastole: LVESV and LVEDV in mL

1,140 subjects of mostly 30 frames. The volumes become partial phenotypes, completed by LVSV and LVEF. Those of the
test set (`solution.csv`, in another form) are not read: its studies have no row. If a view was acquired twice, the
last series is used.
"""

import re
from functools import partial
from pathlib import Path

from cpgg_hf.errors import InputError, PhenotypeError
from cpgg_hf.preparation.layouts.subject import Layout, Subject, known_phenotypes, read_table, refuse
from cpgg_hf.scans.dicom import read_dicom_folder, read_middle_slice

_DEPTHS = ("", "*/", "*/*/")  # a split's folder, the unpacked archives, or both levels of them


def _find(folder: Path, view: str, _rr_ms: float | None) -> list[Subject]:
    """One subject per study: the four-chamber cine, or with "any" the short axis if it is missing."""
    tables = [name for name in ("train.csv", "validate.csv") if (folder / name).is_file()]
    volumes = {row["Id"]: row for name in tables for row in read_table(folder / name, "Id", "Systole", "Diastole")}
    studies = sorted(path for depth in _DEPTHS for path in folder.glob(f"{depth}[0-9]*/study") if path.is_dir())
    if tables and studies and volumes.keys().isdisjoint(study.parent.name for study in studies):
        raise InputError(
            f"{folder}: {' and '.join(tables)} have a row for none of the {len(studies)} studies, whose folder "
            "numbers are expected in the column 'Id', next to the volumes in 'Systole' and 'Diastole'; put the tables "
            "of these studies there, or none."
        )
    return [_subject(study, volumes.get(study.parent.name), view, bool(tables)) for study in studies]


def _subject(study: Path, volumes: dict[str, str] | None, view: str, has_table: bool) -> Subject:
    identifier, read, phenotypes = study.parent.name, _reader(study, view), None
    if volumes is not None:
        try:
            phenotypes = known_phenotypes({"LVESV": volumes["Systole"], "LVEDV": volumes["Diastole"]})
        except PhenotypeError as error:
            read = partial(refuse, f"the table's volumes cannot be right: {error}")
    return Subject(identifier, read, phenotypes, without_row=has_table and volumes is None)


def _reader(study: Path, view: str) -> partial:
    four_chamber = _series(study, "4ch")
    if four_chamber:
        return partial(read_dicom_folder, four_chamber[-1])
    if view == "any" and _series(study, "sax"):
        return partial(read_middle_slice, tuple(_series(study, "sax")))
    return partial(refuse, "the study holds no four-chamber series (4ch_*).")


def _series(study: Path, kind: str) -> list[str]:
    """The study's series of a kind, in the order of acquisition."""
    found = [path for path in study.glob(f"{kind}_*") if path.is_dir()]
    return [str(path) for path in sorted(found, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])]


KAGGLE = Layout("kaggle", _find)
