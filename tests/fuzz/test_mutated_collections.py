"""Mutated zips and tables through `cpgg prepare ukb` and `cpgg prepare cohort`: all listed, or one sentence."""

import shutil
from concurrent.futures import Executor, Future
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import FOUR_CHAMBER, SHORT_AXIS, write_dicom_series
from nifti_files import write_nifti

from cpgg_hf.phenotypes import PHENOTYPES

from .cases import Tally, batches, draw_of
from .dicom_mutations import beating_disc
from .judging import add_records, fault_of_refusal, read_cohort, reason_class, run
from .table_mutations import csv_bytes, mutated_csv
from .zip_mutations import mutated_zip, packed

_BATCH = 40
_NUM_FRAMES = len(beating_disc())


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> list[tuple[str, bytes]]:
    """The images of a 4CH and a SAX series."""
    folder = tmp_path_factory.mktemp("zip")
    details = {"spacing": (4.0, 4.0), "orientation": FOUR_CHAMBER, "description": "CINE_segmented_LAX_4Ch"}
    paths = write_dicom_series(folder / "a", beating_disc(), **details)
    details |= {"orientation": SHORT_AXIS, "description": "CINE_segmented_SAX"}
    paths += write_dicom_series(folder / "b", beating_disc()[:3], prefix="sax", **details)
    return [(path.name, path.read_bytes()) for path in paths]


@pytest.fixture(scope="module")
def manifest(members) -> list[list[str]]:
    header = ["filename", "patientid", "date", "series discription"]
    return [header] + [
        [name, "1000001", "Aug 30, 2015", str(pydicom.dcmread(BytesIO(content)).SeriesDescription)]
        for name, content in members
    ]


class InThisProcess(Executor):
    """Starts no worker: hundreds would take minutes, and they would not know what the tests replace."""

    def submit(self, function, /, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """UK Biobank's cines have 50 frames; the cases' have few, to be many. Nor is a plot drawn for each data set."""
    monkeypatch.setattr("cpgg_hf.shards.processes._worker_processes", lambda _: InThisProcess())
    monkeypatch.setattr("cpgg_hf.preparation.layouts.ukb.NUM_FRAMES", _NUM_FRAMES)
    monkeypatch.setattr("cpgg_hf.dataset.card.find_spec", lambda _: None)


def phenotype_rows(eids: list[str]) -> list[list[str]]:
    """Rows of a UK Biobank table."""
    known = PHENOTYPES[:12]
    header = ["eid", "31-0.0", *(f"{item.field_id}-2.0" for item in known)]
    return [header] + [[eid, "1", *(f"{item.mean:.6g}" for item in known)] for eid in eids]


def prepare_ukb(sandbox: Path) -> tuple[int, str, str]:
    folder = sandbox / "input"
    places = ("--bulk", folder / "bulk", "--phenotypes", folder / "table.csv", "--out", sandbox / "out")
    return run("prepare", "ukb", *places, "--key-file", sandbox / "key")


def test_zips(members, manifest, tmp_path):
    tally = Tally("zip")
    for numbers in batches("zip", _BATCH):
        eids = {str(1_000_000 + number): number for number in numbers}
        bulk = tmp_path / "input/bulk"
        bulk.mkdir(parents=True)
        for eid, number in eids.items():
            content = mutated_zip(members, manifest, draw_of("zip", number))
            (bulk / f"{eid}_20208_2_0.zip").write_bytes(content)
        (tmp_path / "input/table.csv").write_bytes(csv_bytes(phenotype_rows(list(eids))))
        before = {path for path in tmp_path.rglob("*") if "input" in path.parts}
        code, _, err = prepare_ukb(tmp_path)
        assert (tmp_path / "out/report.json").is_file(), f"zip {numbers}: exit code {code}, {err[-2000:]}"
        assert {path for path in tmp_path.rglob("*") if "input" in path.parts} == before
        add_records(tally, tmp_path / "key", eids, tmp_path / "out")
        shutil.rmtree(tmp_path / "out")
        shutil.rmtree(tmp_path / "input")
        assert [path.name for path in tmp_path.iterdir()] == ["key"]
    tally.finish()


def test_ukb_tables(members, manifest, tmp_path):
    bulk = tmp_path / "input/bulk"
    bulk.mkdir(parents=True)
    lines = "\n".join(",".join(row) for row in manifest).encode()
    for eid in ("1000001", "1000002"):
        (bulk / f"{eid}_20208_2_0.zip").write_bytes(packed([*members, ("manifest.csv", lines)]))
    rows = phenotype_rows(["1000002", "1000003", "1000001"])
    _try_tables("ukb-table", rows, lambda: prepare_ukb(tmp_path), tmp_path)


def test_cohort_tables(tmp_path):
    (tmp_path / "input").mkdir()
    cine = (beating_disc() / 1000).astype(np.float32)
    for name in ("first.nii", "second.nii"):
        write_nifti(tmp_path / "input" / name, cine, 110.0, 4.0)
    rows = [
        ["subject", "path", "rr_ms", "LVEDV", "24101-2.0"],
        ["p1", "first.nii", "900", "150", "60"],
        ["p2", "second.nii", "", "", ""],
        ["p3", "absent.nii", "800", "160.5", ""],
    ]

    def prepare() -> tuple[int, str, str]:
        place = ("prepare", "cohort", tmp_path / "input/table.csv", "--layout", "table", "--out", tmp_path / "out")
        return run(*place, "--key-file", tmp_path / "key")

    _try_tables("cohort-table", rows, prepare, tmp_path)


def _try_tables(kind, rows, prepare, sandbox: Path) -> None:
    """Each case is a table of its own: the cohort is prepared and lists everyone, or is refused as a whole."""
    tally = Tally(kind)
    for numbers in batches(kind, 1):
        content = mutated_csv(rows, draw_of(kind, numbers[0]))
        (sandbox / "input/table.csv").write_bytes(content)
        code, _, err = prepare()
        out = sandbox / "out"
        if out.exists():
            records, fault = read_cohort(out)
            used = any("reason" not in record for record in records)
            if (code == 0) != used:
                fault = fault or f"exit code {code}, {err[-400:]}"
            tally.add(numbers[0], "used" if used else "nobody used", fault)
            shutil.rmtree(out)
        else:
            tally.add(numbers[0], reason_class(err), fault_of_refusal(code, err))
        assert {path.name for path in sandbox.iterdir()} <= {"input", "key"}
    tally.finish()
