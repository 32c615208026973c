"""A right answer: a usable cine, or one sentence; no traceback, no half-written file, bounded memory."""

import contextlib
import io
import json
import re
import resource
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pyarrow.parquet

from cpgg_hf.cli.main import main
from cpgg_hf.dataset import decode_cine
from cpgg_hf.preparation.cohorts.pseudonyms import pseudonym

from .cases import Tally

GRID = (50, 96, 96)
_MOST_SECONDS = 300  # of a batch of cases: only what hangs takes so long
_MOST_MEMORY = 2 * 2**30  # bytes of address space beyond those in use
_MOST_RESIDENT = 2**29  # bytes in memory beyond those in use
_LONGEST_SENTENCE = 1200
# What stands in a message that nobody thought of: a Python exception's kind, or memory that ran out.
_UNFORESEEN = re.compile(r"--debug shows where|cannot be read or prepared \(|Traceback|MemoryError|Unable to allocate")
_COHORT_FILE = re.compile(
    r"(?:train|validation|test)-\d+-of-\d+\.parquet|thumbnails|thumbnails/(?:[0-9a-f]{24}\.png|data_policy\.json)"
)
_COHORT_FILES = {"data_policy.json", "dataset.json", "report.json", "report.html", "README.md"}
_OVERLAY_FILES = {"overlay.png", "overlay.gif"}  # where the cine was segmented
_SERIES_FILES = {"data_policy.json", "cine.nii.gz", "dataset.json", "report.json", "test-00000-of-00001.parquet"}


class TookTooLongError(BaseException):
    """Not an `Exception`, so that no reader takes it for a damaged file."""


@contextlib.contextmanager
def within_limits() -> Iterator[None]:
    """No more than some memory and time for what is in the block."""

    def stop(*_: object) -> None:
        raise TookTooLongError(f"more than {_MOST_SECONDS} s")

    in_use = _status("VmSize")
    before = resource.getrlimit(resource.RLIMIT_AS)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    resident = _status("VmRSS")
    handler = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_MOST_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + _MOST_MEMORY, before[1]))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
    peak = _status("VmHWM") - resident
    assert peak < _MOST_RESIDENT, f"{peak / 2**20:.0f} MB were needed"


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", text)[1]) * 1024


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in this process; Python's own warnings count as stderr."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(record=True) as caught,
        within_limits(),
    ):
        warnings.simplefilter("always")
        # Prepared without a network: what is tried is the reading, of thousands of files.
        finder = ("--segmenter", "none") if arguments[0] == "prepare" else ()
        code = main([str(argument) for argument in (*arguments, *finder)])
    stray = [f"{warning.category.__name__}: {warning.message}" for warning in caught if _is_ours(warning)]
    return code, out.getvalue(), "\n".join([*stray, err.getvalue()]) if stray else err.getvalue()


def _is_ours(warning: warnings.WarningMessage) -> bool:
    return not issubclass(warning.category, DeprecationWarning | FutureWarning | ResourceWarning)


def fault_of_sentence(text: str) -> str | None:
    """Why a message is none that a user can act on; None where it is."""
    if _UNFORESEEN.search(text):
        return f"unforeseen: {text[:300]}"
    if not text.isprintable() or len(text) > _LONGEST_SENTENCE or len(text.split()) < 4:
        return f"no readable sentence of {len(text)} letters: {text[:200]!r}"
    return None


def fault_of_refusal(code: int, err: str) -> str | None:
    """Why a refusal by a command is a wrong one."""
    lines = err.strip().split("\n")
    if code != 1 or len(lines) != 1 or not lines[0].startswith("error: "):
        return f"exit code {code}, stderr {err[:400]!r}"
    return fault_of_sentence(lines[0])


def fault_of_notes(err: str) -> str | None:
    """Why stderr of a command that did its work is a wrong one: each line is a note."""
    lines = err.strip().split("\n") if err.strip() else []
    if any(not line.startswith("note: ") for line in lines):
        return f"stderr {err[:400]!r}"
    return next(filter(None, map(fault_of_sentence, lines)), None)


def fault_of_series(folder: Path) -> str | None:
    """What is wrong with a folder that `cpgg prepare dicom` or `nifti` wrote."""
    names = {path.name for path in folder.iterdir()}
    if names - _OVERLAY_FILES != _SERIES_FILES:
        return f"the folder holds {sorted(names)}"
    image = nibabel.load(folder / "cine.nii.gz")
    cine = np.asarray(image.dataobj)
    if cine.shape != (96, 96, 1, 50) or not np.isfinite(cine).all() or cine.min() < 0 or cine.max() > 1:
        return f"a cine of shape {cine.shape}, {cine.min()} to {cine.max()}"
    if not np.isfinite(image.affine).all() or np.abs(np.linalg.det(image.affine[:3, :3])) < 0.1:
        return f"an affine of {image.affine.tolist()}"
    report = (folder / "report.json").read_text()
    if re.search(r"\b(NaN|Infinity)\b", report):
        return f"a report with {report[:500]}"
    return fault_of_rows(folder, 1)


def fault_of_rows(folder: Path, expected: int) -> str | None:
    """What is wrong with the rows of a data set."""
    rows = [row for path in sorted(folder.glob("*.parquet")) for row in pyarrow.parquet.read_table(path).to_pylist()]
    if len(rows) != expected:
        return f"{len(rows)} rows, expected {expected}"
    for row in rows:
        cine = decode_cine(row)
        if cine.shape != GRID or cine.dtype != np.uint8 or cine.min() == cine.max():
            return f"a cine of shape {cine.shape}, {cine.dtype}, {cine.min()} to {cine.max()}"
        if not 0 < row["frame_time_ms"] < 100 or row["spacing_mm"] != 1.8:
            return f"a frame time of {row['frame_time_ms']} ms, a spacing of {row['spacing_mm']} mm"
        if np.isinf(np.array(row["phenotypes"], dtype=np.float64)).any():
            return "phenotypes that are not finite"
    return None


def read_cohort(out: Path) -> tuple[list[dict], str | None]:
    """The records of a finished cohort, and what is wrong with it."""
    names = {str(path.relative_to(out)) for path in out.rglob("*")}
    strange = sorted(name for name in names - _COHORT_FILES if not _COHORT_FILE.fullmatch(name))
    if strange or not names >= _COHORT_FILES:
        return [], f"the folder holds {strange or sorted(names)}"
    report = json.loads((out / "report.json").read_text())
    records = report["subjects"]
    said = [text for record in records for text in (record.get("reason"), *record["warnings"]) if text is not None]
    used = sum("reason" not in record for record in records)
    fault = None if used == report["num_used"] else f"{used} records of {report['num_used']} used subjects"
    return records, fault or fault_of_rows(out, used) or next(filter(None, map(fault_of_sentence, said)), None)


def add_records(tally: Tally, key_file: Path, numbers: dict[str, int], out: Path) -> None:
    """Counts the subjects of a cohort by what became of them; `numbers`: the case of each identifier."""
    records, fault = read_cohort(out)
    key = bytes.fromhex(key_file.read_text())
    case = {pseudonym(identifier, key): number for identifier, number in numbers.items()}
    if sorted(record["subject"] for record in records) != sorted(case):
        fault = fault or f"{len(records)} records of {len(case)} subjects"
    for record in records:
        reason = record.get("reason")
        said = [*record["warnings"], *([] if reason is None else [reason])]
        own = next(filter(None, map(fault_of_sentence, said)), None)
        tally.add(case[record["subject"]], "used" if reason is None else reason_class(reason), own)
        fault = None if own else fault
    if fault:
        tally.add(min(numbers.values()), "wrong cohort", f"(and up to {max(numbers.values())}) {fault}")


def reason_class(text: str) -> str:
    """A reason without what differs from case to case, for counting."""
    text = text.removeprefix("error: ").split(";")[0]
    text = re.sub(r"^\S*/\S*:? |'[^']*'|\"[^\"]*\"|\([^)]*\)?|\[[^\]]*\]|[^\s/]*(?:/[^\s/:;]+)+", " ", text)
    text = re.sub(r"[-+]?\d[\d.,e+-]*|\bnan\b|\binf\b", "N", text)
    return " ".join(text.split())[:70].lower()
