"""Mutated DICOM and NIfTI files through `cpgg prepare dicom`, `nifti` and `cohort`: a cine, or one sentence."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .cases import Tally, batches, draw_of
from .dicom_mutations import mutated_series, sound_series
from .judging import (
    add_records,
    fault_of_notes,
    fault_of_refusal,
    fault_of_series,
    reason_class,
    run,
)
from .nifti_mutations import mutated_nifti, sound_files

_BATCH = 48
_ALONE = 8  # of a batch: as a single series, each by a command of its own


@pytest.fixture(scope="module")
def write_dicom(tmp_path_factory) -> Callable[[Path, int], Path]:
    forms = sound_series(tmp_path_factory.mktemp("dicom"))

    def write(folder: Path, number: int) -> Path:
        place = folder / f"scan{number}"
        place.mkdir()
        for index, content in enumerate(mutated_series(forms, draw_of("dicom", number))):
            (place / f"image{index:03d}.dcm").write_bytes(content)
        return place

    return write


@pytest.fixture(scope="module")
def write_nifti(tmp_path_factory) -> Callable[[Path, int], Path]:
    files = sound_files(tmp_path_factory.mktemp("nifti"))

    def write(folder: Path, number: int) -> Path:
        name, content = mutated_nifti(files, draw_of("nifti", number))
        place = folder / f"scan{number}"
        place.mkdir()
        (place / name).write_bytes(content)
        return place / name

    return write


def test_dicom(write_dicom, tmp_path):
    _try_all("dicom", write_dicom, tmp_path)


def test_nifti(write_nifti, tmp_path):
    _try_all("nifti", write_nifti, tmp_path)


def _try_all(kind: str, write: Callable[[Path, int], Path], sandbox: Path) -> None:
    tally = Tally(kind)
    for numbers in batches(kind, _BATCH):
        scans = sandbox / "scans"
        scans.mkdir()
        paths = {number: write(scans, number) for number in numbers}
        alone = {number for number in numbers if number % _BATCH < _ALONE}
        for number in sorted(alone):
            _try_alone(tally, number, paths[number], sandbox)
        _try_cohort(tally, {number: path for number, path in paths.items() if number not in alone}, sandbox)
        shutil.rmtree(scans)
        left = sorted(path.name for path in sandbox.iterdir())
        assert left in ([], ["key"]), f"{kind} {numbers}: {left} was left behind"
    tally.finish()


def _view(number: int) -> str:
    return "any" if number % 3 == 0 else "4ch"


def _try_alone(tally: Tally, number: int, path: Path, sandbox: Path) -> None:
    out = sandbox / "out"
    code, _, err = run("prepare", tally.kind, path, "--out", out, "--view", _view(number))
    if code == 0:
        tally.add(number, "used", fault_of_notes(err) or fault_of_series(out))
        shutil.rmtree(out)
    else:
        fault = fault_of_refusal(code, err) or ("something was left in the output" if out.exists() else None)
        tally.add(number, reason_class(err), fault)


def _try_cohort(tally: Tally, paths: dict[int, Path], sandbox: Path) -> None:
    if not paths:
        return
    table, out = sandbox / "scans/table.csv", sandbox / "out"
    with table.open("w", newline="") as file:
        rows = [(f"case{number:07d}", path.relative_to(table.parent)) for number, path in paths.items()]
        csv.writer(file).writerows([("subject", "path"), *rows])
    view = _view(min(paths) // _BATCH)
    code, _, err = run(
        *("prepare", "cohort", table, "--layout", "table", "--view", view, "--out", out, "--key-file", sandbox / "key")
    )
    assert (out / "report.json").is_file(), f"{tally.kind} {list(paths)}: exit code {code}, {err[-2000:]}"
    add_records(tally, sandbox / "key", {f"case{number:07d}": number for number in paths}, out)
    shutil.rmtree(out)
