"""What `cpgg prepare dicom` and `cpgg prepare nifti` do: one acquired cine in, one prepared folder out.

The folder holds `cine.nii.gz` (true affine and frame time), the cine as a one-row data set (split "test") and
`report.json`. It appears whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.dataset import CineWriter, write_description
from cpgg_hf.errors import InputError, brief
from cpgg_hf.files.staging import staged_folder
from cpgg_hf.preparation.grid.prepare import PreparedCine, prepare_series, to_display_orientation
from cpgg_hf.preparation.grid.view import ViewJudgement, judge_view, require_view
from cpgg_hf.scans.dicom import read_dicom_folder
from cpgg_hf.scans.nifti import PREPARED, read_nifti, write_nifti
from cpgg_hf.scans.series import CineSeries

CINE_FILE = "cine.nii.gz"
REPORT_FILE = "report.json"
_SUBJECT = "subject-1"  # the files' own identifiers stay behind


def prepare_dicom_folder(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    view: str = "4ch",
    phenotypes: str | os.PathLike[str] | None = None,
    rr_ms: float | None = None,
    turn_upright: bool = False,
    segmenter: str | None = None,
    mask: str | os.PathLike[str] | None = None,
    data_policy: str = "restricted",
) -> dict[str, Any]:
    """Prepare the one cine series of a DICOM folder.

    Args:
        folder: the frames of one series.
        out: the folder to write; must not exist, or be empty.
        view: "4ch" refuses planes that look like another view; "any" takes every plane.
        phenotypes: JSON file `{"phenotypes": {"LVEF": 61.0, ...}}` with what is known of the subject.
        rr_ms: length of the heart beat, for files that do not state it.
        turn_upright: mirror a four-chamber cine so that it stands as phantoms do, see `to_display_orientation`.
        segmenter: folder of a field segmenter, which finds the heart and checks the view; by default the heart is
            found by its motion.
        mask: NIfTI file of labels that says where the heart is instead, see `read_mask`.
        data_policy: "restricted" (patients' data, never published) or "public".

    Returns:
        The content of `report.json`.

    Raises:
        InputError: input that cannot be used, in one sentence; nothing is written then.
        OutputError: `out` has content, or cannot be written.
    """
    settings: dict[str, Any] = {
        "turn_upright": turn_upright,
        "segmenter": segmenter,
        "mask": mask,
        "policy": data_policy,
    }
    return _prepare(lambda: read_dicom_folder(folder, rr_ms), out, view, phenotypes, **settings)


def prepare_nifti_file(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    view: str = "4ch",
    phenotypes: str | os.PathLike[str] | None = None,
    rr_ms: float | None = None,
    turn_upright: bool = False,
    segmenter: str | None = None,
    mask: str | os.PathLike[str] | None = None,
    data_policy: str = "restricted",
) -> dict[str, Any]:
    """Prepare the one cine of a NIfTI file; arguments, result and errors as `prepare_dicom_folder`."""
    settings: dict[str, Any] = {
        "turn_upright": turn_upright,
        "segmenter": segmenter,
        "mask": mask,
        "policy": data_policy,
    }
    return _prepare(lambda: read_nifti(path, rr_ms), out, view, phenotypes, **settings)


def read_phenotypes_json(path: str | os.PathLike[str]) -> np.ndarray:
    """The (82,) phenotypes of a JSON file `{"phenotypes": {name or field: value}}`.

    What the given values determine is filled in (two of EDV, ESV, SV, EF give the others); the rest is NaN.

    Raises:
        InputError: no such file, or another form.
        PhenotypeError: an unknown phenotype, an impossible value, or values that contradict each other.
    """
    from cpgg_hf.errors import PhenotypeError
    from cpgg_hf.phenotypes import as_array, complete_identities

    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_named_once)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({brief(error)}); expected {_PHENOTYPES_FORM}.") from None
    if not isinstance(content, dict) or not isinstance(content.get("phenotypes"), dict):
        raise InputError(f"{path} holds no phenotypes; expected {_PHENOTYPES_FORM}.")
    try:
        array = complete_identities(as_array(content["phenotypes"]))
    except PhenotypeError as error:
        raise PhenotypeError(f"{path}: {error}") from error
    if len(array) > 1:
        raise InputError(f"{path} holds lists of {len(array)} values; expected one heart, {_PHENOTYPES_FORM}.")
    return array[0]


def find_and_prepare(
    series: CineSeries,
    view: str,
    segmenter: str | None,
    mask: str | os.PathLike[str] | None,
    with_probabilities: bool = False,
) -> PreparedCine:
    """`prepare_series` with the mask in a file, or else the segmenter in a folder, or else by motion."""
    if mask is not None:
        from cpgg_hf.preparation.grid.mask import read_mask

        return prepare_series(series, mask=read_mask(mask, series))
    if segmenter is not None:
        from cpgg_hf.preparation.grid.heart_segmentation import load_scan_segmenter

        network = load_scan_segmenter(segmenter)
        return prepare_series(series, segmenter=network, view=view, with_probabilities=with_probabilities)
    return prepare_series(series)


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    (name, number), *_ = Counter(name for name, _ in pairs).most_common(1) or [("", 0)]
    if number > 1:
        raise ValueError(f"{name!r} is there {number} times")
    return dict(pairs)


_PHENOTYPES_FORM = '{"phenotypes": {"LVEF": 61.0, ...}}'


def _prepare(
    read: Callable[[], CineSeries],
    out: str | os.PathLike[str],
    view: str,
    phenotypes: str | os.PathLike[str] | None,
    *,
    turn_upright: bool,
    segmenter: str | None,
    mask: str | os.PathLike[str] | None,
    policy: str,
) -> dict[str, Any]:
    known = None if phenotypes is None else read_phenotypes_json(phenotypes)
    with staged_folder(out) as partial:
        series = read()
        judgement = judge_view(series.normal)
        view_notes = require_view(judgement, view, series.origin)
        prepared = find_and_prepare(to_display_orientation(series) if turn_upright else series, view, segmenter, mask)
        report = _report(series, prepared, judgement, view, known, view_notes)
        write_nifti(
            partial / CINE_FILE,
            prepared.cine,
            prepared.frame_time_ms,
            prepared.spacing_mm,
            prepared.affine,
            PREPARED,
        )
        with CineWriter(partial, "test") as writer:
            writer.add(
                Cine(
                    pixels=prepared.cine,
                    spacing_mm=(prepared.spacing_mm, prepared.spacing_mm),
                    frame_time_ms=prepared.frame_time_ms,
                    subject=_SUBJECT,
                    source=series.source,
                    data_policy=policy,
                    view=judgement.view,
                    phenotypes=known,
                )
            )
        write_description(partial, source=series.source, spacing_mm=prepared.spacing_mm, data_policy=policy)
        (partial / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _report(
    series: CineSeries,
    prepared: PreparedCine,
    judgement: ViewJudgement,
    view: str,
    known: np.ndarray | None,
    view_notes: tuple[str, ...],
) -> dict[str, Any]:
    from cpgg_hf.phenotypes import NAMES

    given = {} if known is None else {name: float(v) for name, v in zip(NAMES, known, strict=True) if not np.isnan(v)}
    return {
        "input": series.origin,
        "source": series.source,
        "view": {
            "asked": view,
            "judged": judgement.view,
            "confidence": round(judgement.confidence, 2),
            "degrees_from_typical": {name: round(angle, 1) for name, angle in judgement.angles.items()},
        },
        "acquired": {
            "num_frames": len(series.frames),
            "rows": series.frames.shape[1],
            "columns": series.frames.shape[2],
            "pixel_spacing_mm": [round(float(value), 4) for value in series.pixel_spacing_mm],
            "frame_time_ms": round(series.frame_time_ms, 3),
            "rr_ms": round(series.rr_ms, 1),
            "heart_rate": round(60000 / series.rr_ms, 1),
        },
        "prepared": {
            "shape": list(prepared.cine.shape),
            "spacing_mm": prepared.spacing_mm,
            "frame_time_ms": round(prepared.frame_time_ms, 4),
            "center_row_column": [round(float(value), 1) for value in prepared.center],
        },
        "phenotypes": given,
        "warnings": [*view_notes, *prepared.warnings],
    }
