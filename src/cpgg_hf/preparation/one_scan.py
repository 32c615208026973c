"""Prepare one scan into a folder, as `cpgg prepare dicom` and `cpgg prepare nifti` do.

The folder holds `cine.nii.gz` (with the acquired plane and frame time), the cine as a data set of one row (split
"test"), the segmentation drawn on the cine (`overlay.png`, `overlay.gif`) and `report.json`. It appears complete or
not at all.
"""

import json
import os
from dataclasses import replace
from typing import Any

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.dataset import CineWriter, write_description
from cpgg_hf.exports.nifti import write_nifti
from cpgg_hf.exports.overlay import write_overlay
from cpgg_hf.files.policy_record import recorded
from cpgg_hf.files.staging import staged_folder
from cpgg_hf.measure.plausibility import PlausibleMeasurement, disagreements, plausible
from cpgg_hf.phenotypes import NAMES
from cpgg_hf.phenotypes.json_file import read_json
from cpgg_hf.preparation.grid.heart_segmentation import load_scan_segmenter
from cpgg_hf.preparation.grid.mask import read_mask
from cpgg_hf.preparation.grid.prepare import PreparedScan, prepare_scan, to_display_orientation
from cpgg_hf.preparation.grid.view import ViewEstimate, accepted_view, classify_view, require_view
from cpgg_hf.scans import read_scan

CINE_FILE = "cine.nii.gz"
REPORT_FILE = "report.json"
_SUBJECT = "subject-1"  # identifiers in the input are not copied
_NOT_SEGMENTED = "without a segmentation of every frame nothing was measured, and no segmentation is drawn."


def prepare_one_scan(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    view: str = "4ch",
    phenotypes: str | os.PathLike[str] | None = None,
    rr_ms: float | None = None,
    turn_upright: bool = False,
    segmenter: str | None = None,
    mask: str | os.PathLike[str] | None = None,
    series: str | None = None,
    data_policy: str = "restricted",
) -> dict[str, Any]:
    """Prepare the scan in a DICOM folder or a NIfTI file.

    Args:
        path: a DICOM folder, or a NIfTI file, see `read_scan`.
        out: the folder to write; must be new or empty.
        view: "4ch" refuses planes that look like another view; "any" accepts every plane.
        phenotypes: JSON file `{"phenotypes": {"LVEF": 61.0, ...}}` with the subject's known phenotypes.
        rr_ms: length of the heart beat, for files that do not state it, or hold several beats.
        turn_upright: whether to mirror a four-chamber cine, see `to_display_orientation`.
        segmenter: folder of a scan segmenter, which locates the heart and checks the view; by default the heart is
            located by its motion.
        mask: NIfTI file of labels that is used instead, see `read_mask`.
        series: which cine of several in a DICOM folder, see `read_scan`.
        data_policy: "restricted" (patients' data, never published) or "public".

    Returns:
        The content of `report.json`.

    Raises:
        InputError: input that cannot be used; nothing is written.
        PhenotypeError: phenotypes that cannot be right; nothing is written.
        OutputError: `out` has content, or cannot be written.
    """
    known = None if phenotypes is None else read_json(phenotypes)
    with staged_folder(out) as partial, recorded(partial, data_policy):
        scan = read_scan(path, rr_ms, series=series)
        estimate = classify_view(scan.normal)
        view_warnings = require_view(estimate, view, scan.origin)
        upright = to_display_orientation(scan) if turn_upright else scan
        prepared = find_and_prepare(upright, view, segmenter, mask, with_probabilities=True)
        trusted = None if prepared.measurement is None else plausible(prepared.measurement)
        report = _report(scan, prepared, estimate, view, known, view_warnings, trusted)
        cine = replace(
            prepared.cine,
            subject=_SUBJECT,
            data_policy=data_policy,
            view=report["view"]["estimated"],
            phenotypes=known,
        )
        write_nifti(partial / CINE_FILE, cine)
        with CineWriter(partial, "test") as writer:
            writer.add(cine)
        write_description(partial, source=cine.source, spacing_mm=cine.pixel_size_mm, data_policy=data_policy)
        if prepared.probabilities is not None and trusted is not None:
            write_overlay(partial, cine, prepared.probabilities, trusted.volumes_ml, trusted.end_systole)
        (partial / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def find_and_prepare(
    scan: Cine,
    view: str,
    segmenter: str | None,
    mask: str | os.PathLike[str] | None,
    with_probabilities: bool = False,
) -> PreparedScan:
    """`prepare_scan` with the mask of a file, or else the segmenter of a folder, or else by motion."""
    if mask is not None:
        return prepare_scan(scan, mask=read_mask(mask, scan), view=view)
    if segmenter is not None:
        network = load_scan_segmenter(segmenter)
        return prepare_scan(scan, segmenter=network, view=view, with_probabilities=with_probabilities)
    return prepare_scan(scan, view=view)


def _report(
    scan: Cine,
    prepared: PreparedScan,
    estimate: ViewEstimate,
    view: str,
    known: np.ndarray | None,
    view_warnings: tuple[str, ...],
    trusted: PlausibleMeasurement | None,
) -> dict[str, Any]:
    notes: tuple[str, ...] = (_NOT_SEGMENTED,)
    if trusted is not None:
        differ = {} if known is None else disagreements(known, trusted.phenotypes)
        notes = (*trusted.notes, *differ.values())
    cine = prepared.cine
    return {
        "input": scan.origin,
        "source": scan.source,
        "view": {
            "requested": view,
            "estimated": accepted_view(estimate, view),
            "estimated_from": "plane" if estimate.angles else "image",
            "confidence": round(estimate.confidence, 2),
            "degrees_from_typical": {name: round(angle, 1) for name, angle in estimate.angles.items()},
        },
        "acquired": {
            "num_frames": len(scan),
            "rows": scan.pixels.shape[1],
            "columns": scan.pixels.shape[2],
            "pixel_spacing_mm": [round(value, 4) for value in scan.spacing_mm],
            "frame_time_ms": round(scan.frame_time_ms, 3),
            "rr_ms": round(scan.rr_ms, 1),
            "heart_rate": round(60000 / scan.rr_ms, 1),
        },
        "prepared": {
            "shape": list(cine.pixels.shape),
            "spacing_mm": cine.pixel_size_mm,
            "frame_time_ms": round(cine.frame_time_ms, 4),
            "center_row_column": [round(float(value), 1) for value in prepared.center],
        },
        "phenotypes": {} if known is None else _by_name(known),
        "measured": {} if trusted is None else _by_name(trusted.phenotypes),
        "warnings": [*view_warnings, *cine.warnings, *notes],
    }


def _by_name(phenotypes: np.ndarray) -> dict[str, float]:
    return {name: float(value) for name, value in zip(NAMES, phenotypes, strict=True) if not np.isnan(value)}
