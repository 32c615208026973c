"""ACDC, the Automated Cardiac Diagnosis Challenge (2017), as its site distributes it since 2022 (`database/`).

    database/training/patient001/Info.cfg                  ED: 1, ES: 12, Group: DCM, ... (frames count from 1)
    database/training/patient001/patient001_4d.nii.gz      short-axis stack over the beat
    database/testing/patient101/...

Short axis only: 150 patients, 12 to 35 frames. The older archives (`training/`, `testing/` without the folder around
them) are read as well. Many headers have no usable frame time: give the RR interval to assume.
"""

import re
from functools import partial
from pathlib import Path

from cpgg_hf.preparation.layouts.subject import Layout, Subject, read_nifti_slice, refuse
from cpgg_hf.scans.files import paths_below


def _find(folder: Path, _view: str, rr_ms: float | None) -> list[Subject]:
    """One subject per folder `patient001`, ...; the cine begins at the end-diastolic frame of `Info.cfg`."""
    patients = sorted(path for path in paths_below(folder) if path.match("patient[0-9]*") and path.is_dir())
    return [Subject(patient.name, _reader(patient, rr_ms)) for patient in patients]


def _reader(patient: Path, rr_ms: float | None) -> partial:
    path = patient / "Info.cfg"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    stated = re.search(r"^ED:\s*(\d+)\s*$", text, re.MULTILINE)
    if stated is None:
        return partial(refuse, "Info.cfg is missing or has no ED frame; copy the patient's folder again.")
    return partial(read_nifti_slice, str(patient / f"{patient.name}_4d.nii.gz"), rr_ms, first_frame=int(stated[1]) - 1)


ACDC = Layout("acdc", _find, short_axis_only=True)
