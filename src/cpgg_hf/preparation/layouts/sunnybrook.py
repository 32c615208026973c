"""Sunnybrook Cardiac Data (the 2009 left ventricle challenge), as the Cardiac Atlas Project distributes it.

    SCD_IMAGES_01/SCD0000101/CINESAX_300/IM-0003-0001.dcm       short-axis stack over the beat, all in one folder
    SCD_IMAGES_01/SCD0000101/CINELAX_301/...                    long axis, view not stated

Short axis only: 45 subjects of 20 frames, GE, without a SeriesDescription and with UIDs that break DICOM's rules.
Copies without series folders (`SCD0000101/1.dcm`) are read as well.
"""

from functools import partial
from pathlib import Path

from cpgg_hf.preparation.layouts.subject import Layout, Subject
from cpgg_hf.scans.dicom import read_middle_slice
from cpgg_hf.scans.files import paths_below


def _find(folder: Path, _view: str, _rr_ms: float | None) -> list[Subject]:
    """One subject per `SCD` folder; of several short-axis series the one with the most images."""
    patients = sorted(path for path in paths_below(folder) if path.match("SCD[0-9]*") and path.is_dir())
    return [Subject(patient.name, partial(read_middle_slice, (str(_stack(patient)),))) for patient in patients]


def _stack(patient: Path) -> Path:
    series = sorted(path for path in patient.glob("CINESAX*") if path.is_dir())
    return max(series, key=lambda path: len(list(path.iterdir())), default=patient)


SUNNYBROOK = Layout("sunnybrook", _find, short_axis_only=True)
