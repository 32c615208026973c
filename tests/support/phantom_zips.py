"""Zips in the form of UK Biobank's field 20208, and their table of phenotypes, made from phantoms.

No participant's data can be shipped, so the reader in `ukb.py` is proved on these: the same names, manifest, series
and planes, and the faults that such zips have.
"""

from __future__ import annotations

import csv
import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpgg_hf import phantom
from cpgg_hf.cine import Cine
from cpgg_hf.exports.dicom import dicom_frames
from cpgg_hf.files.staging import staged_file
from cpgg_hf.phenotypes import PHENOTYPES
from cpgg_hf.preparation.grid.view import reference_normals
from cpgg_hf.preparation.layouts.ukb import LONG_AXIS_FIELD

# How a zip deviates from the plain one, and whether its cine can be used nevertheless.
KINDS = {
    "plain": True,
    "repeated": True,  # the four-chamber series was taken again
    "no_manifest": True,
    "damaged_manifest": True,  # rows cut off, rows with a comma too many
    "label_of_another_view": False,  # a short-axis series is labelled four-chamber, and no other is
    "frame_missing": False,  # 49 of 50
    "no_four_chamber": False,
}
COLUMN_FORMS = {"dash": "{field}-{instance}.0", "dot": "f.{field}.{instance}.0", "rap": "p{field}_i{instance}"}
_EID_COLUMN = {"dash": "eid", "dot": "f.eid", "rap": "eid"}
_LABEL = {view: f"CINE_segmented_LAX_{view[0]}Ch" for view in ("2ch", "3ch", "4ch")}
_MANIFEST_COLUMNS = "filename,patientid,studyid,date,series discription,modality,uncompressed size (in bytes)"
_DATE = "Aug 30, 2015 10:02:{second:02d} AM"  # its comma is not quoted


@dataclass(frozen=True)
class PhantomZip:
    """One zip and what is in it.

    Attributes:
        eid: seven digits.
        path: the zip.
        kind: one of `KINDS`.
        cine: (50, 96, 96) uint8, the four-chamber cine that a reader should find where `KINDS[kind]`.
        frame_time_ms: time from one of its frames to the next.
        phenotypes: (82,) as the table has them, NaN = empty.
    """

    eid: str
    path: Path
    kind: str
    cine: np.ndarray
    frame_time_ms: float
    phenotypes: np.ndarray


def write_ukb_zips(
    folder: str | os.PathLike[str],
    num_subjects: int,
    seed: int = 0,
    kinds: Sequence[str] = ("plain",),
    column_form: str = "dash",
    instance: int = 2,
    missing_share: float = 0.0,
) -> list[PhantomZip]:
    """Write `<folder>/bulk/<eid>_20208_<instance>_0.zip` and `<folder>/phenotypes.csv`; the same for the same seed.

    Args:
        folder: where; created when absent.
        num_subjects: zips, and rows of the table.
        seed: of hearts, EIDs and planes; subject `i` depends on `seed` and `i` alone.
        kinds: among `KINDS`, dealt out in turn.
        column_form: "dash" (`24100-2.0`), "dot" (`f.24100.2.0`, tab-separated) or "rap" (`p24100_i2`).
        instance: the imaging visit.
        missing_share: share of the table's values that are left empty.
    """
    folder = Path(folder)
    subjects = [
        _write_zip(folder / "bulk", seed, index, kinds[index % len(kinds)], instance, missing_share)
        for index in range(num_subjects)
    ]
    _write_table(folder / "phenotypes.csv", subjects, column_form, instance, seed)
    return subjects


def _write_zip(folder: Path, seed: int, index: int, kind: str, instance: int, missing_share: float) -> PhantomZip:
    rng = np.random.default_rng([seed, index])
    eid = str(1_000_000 + 8 * index + int(rng.integers(8)))  # no two are the same
    heart_seed = int(rng.integers(2**31))
    heart = phantom.render(phantom.sample_phenotypes(1, heart_seed)[0], heart_seed)
    series = [
        (label, _frames(label, number, cine, view, heart.cine.frame_time_ms, eid, heart_seed, rng))
        for number, (label, view, cine) in enumerate(_contents(kind, heart.cine.pixels), start=7)
    ]
    path = folder / f"{eid}_{LONG_AXIS_FIELD}_{instance}_0.zip"
    with staged_file(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        manifest = [_MANIFEST_COLUMNS]
        for label, files in series:
            for name, content in files:
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
                date = _DATE.format(second=len(manifest) % 60)
                manifest.append(f"{name},{eid},{heart_seed},{date},{label},MR,{len(content)}")
        if kind == "damaged_manifest":
            manifest[1::3] = [row[:40] for row in manifest[1::3]]
            manifest[2::3] = [row.replace(",MR", ",MR,scan, again") for row in manifest[2::3]]
        if kind != "no_manifest":
            name = "manifest.cvs" if index % 2 else "manifest.csv"
            archive.writestr(zipfile.ZipInfo(name), "\n".join(manifest) + "\n")
    phenotypes = np.where(rng.random(len(heart.phenotypes)) < missing_share, np.nan, heart.phenotypes)
    return PhantomZip(eid, path, kind, heart.cine.pixels, heart.cine.frame_time_ms, phenotypes)


def _contents(kind: str, cine: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """Label, true view and frames of each series; what is no four-chamber cine beats too, but shows other pixels."""
    other = cine[:, ::-1, ::-1]
    yield _LABEL["2ch"], "2ch", other.transpose(0, 2, 1)
    yield _LABEL["3ch"], "3ch", other
    if kind == "repeated":
        yield _LABEL["4ch"], "4ch", 255 - cine
    if kind == "label_of_another_view":
        yield _LABEL["4ch"], "sax", other
    elif kind != "no_four_chamber":
        yield _LABEL["4ch"], "4ch", cine[1:] if kind == "frame_missing" else cine
        yield f"{_LABEL['4ch']}_InlineVF", "4ch", np.maximum(cine, other)


def _frames(
    label: str,
    number: int,
    cine: np.ndarray,
    view: str,
    frame_time_ms: float,
    eid: str,
    seed: int,
    rng: np.random.Generator,
) -> list[tuple[str, bytes]]:
    """A series' files, which name the participant; their names, as a scanner's, do not sort in the order of time."""
    files = []
    placed = Cine(
        pixels=cine,
        frame_time_ms=frame_time_ms,
        orientation=_tilted_plane(view, rng),
        position=rng.uniform(-120, -60, 3),
        seed=seed,
    )
    for dataset in dicom_frames(placed, label):
        dataset.SeriesNumber = number
        dataset.PatientID = dataset.PatientName = eid
        dataset.StudyInstanceUID = dataset.FrameOfReferenceUID = f"2.25.{seed}"
        content = io.BytesIO()
        dataset.save_as(content, enforce_file_format=True)
        files.append((f"{dataset.SOPInstanceUID}.dcm", content.getvalue()))
    return sorted(files)


def _tilted_plane(view: str, rng: np.random.Generator) -> np.ndarray:
    """(6,) orientation of a plane up to about 8 degrees from a view's textbook one, rows to the patient's left."""
    normal = reference_normals()[view] + rng.uniform(-0.08, 0.08, 3)
    normal /= np.linalg.norm(normal)
    along_row = np.array([1.0, 0.0, 0.0]) - normal[0] * normal
    along_row /= np.linalg.norm(along_row)
    return np.concatenate([along_row, np.cross(normal, along_row)])


def _write_table(path: Path, subjects: list[PhantomZip], column_form: str, instance: int, seed: int) -> None:
    """The table, with columns and rows that a reader has to pass over, rows in another order than the zips."""
    names = [COLUMN_FORMS[column_form].format(field=item.field_id, instance=instance) for item in PHENOTYPES]
    sex = COLUMN_FORMS[column_form].format(field=31, instance=0)
    repeat = COLUMN_FORMS[column_form].format(field=PHENOTYPES[0].field_id, instance=instance + 1)
    rows = [
        [one.eid, "1", "", *("" if np.isnan(value) else repr(float(value)) for value in one.phenotypes)]
        for one in subjects
    ]
    rows.append(["9999999", "0", "", *[""] * len(names)])  # no zip
    np.random.default_rng(seed).shuffle(rows)
    with staged_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if column_form == "dot" else ",")
        writer.writerow([_EID_COLUMN[column_form], sex, repeat, *names])
        writer.writerows(rows)
