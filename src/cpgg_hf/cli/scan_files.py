"""DICOM folders and NIfTI files as `Cine`s, and prepared on the package's grid."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.scans.series import CineSeries


@dataclass(frozen=True)
class PreparedScan:
    """A cine on the grid.

    Attributes:
        cine: float32 in [0, 1].
        probabilities: (T, 7, H, W) of the structures, where a mask or a segmenter gave them.
    """

    cine: Cine
    probabilities: np.ndarray | None


def read_scan(path: str | os.PathLike[str], rr_ms: float | None = None) -> Cine:
    """The cine in a DICOM folder or a NIfTI file, in scanner units."""
    from cpgg_hf.scans.dicom import read_dicom_folder
    from cpgg_hf.scans.nifti import read_nifti

    series = read_dicom_folder(path, rr_ms) if Path(path).is_dir() else read_nifti(path, rr_ms)
    rows, columns = series.pixel_spacing_mm
    return Cine(
        pixels=series.frames,
        frame_time_ms=series.frame_time_ms,
        spacing_mm=(rows, columns),
        times_ms=series.times_ms,
        rr_ms=series.rr_ms,
        scanner_units=True,
        orientation=series.orientation,
        position=series.position,
        slice_thickness_mm=series.slice_thickness_mm,
        source=series.source,
        acquired=series.prepared,
        origin=series.origin,
        warnings=series.warnings,
    )


def view_notes(scan: Cine, view: str) -> tuple[str, ...]:
    """Notes about the view; InputError where the plane looks like another view than `view`."""
    from cpgg_hf.preparation.grid.view import judge_view, require_view

    return require_view(judge_view(scan.normal), view, scan.origin)


def prepare_scan(
    scan: Cine, view: str, segmenter: str | None, mask: str | None, to_display: bool = False
) -> PreparedScan:
    """Bring a scan onto the grid, with the segmenter in a folder or the mask in a file."""
    from cpgg_hf.preparation.grid.prepare import to_display_orientation
    from cpgg_hf.preparation.one_scan import find_and_prepare

    series = CineSeries(
        frames=scan.pixels,
        pixel_spacing_mm=np.array(scan.spacing_mm),
        times_ms=scan.times_ms,
        rr_ms=scan.rr_ms,
        orientation=scan.orientation,
        position=scan.position,
        slice_thickness_mm=scan.slice_thickness_mm,
        origin=scan.origin,
        source=scan.source,
        warnings=scan.warnings,
    )
    series = to_display_orientation(series) if to_display else series
    prepared = find_and_prepare(series, view, segmenter, mask, with_probabilities=True)
    cine = Cine(
        pixels=prepared.cine,
        frame_time_ms=prepared.frame_time_ms,
        spacing_mm=prepared.spacing_mm,  # type: ignore[arg-type]
        rr_ms=prepared.rr_ms,
        orientation=prepared.orientation,
        position=prepared.position,
        source=scan.source,
        acquired=True,
        origin=scan.origin,
        warnings=prepared.warnings,
    )
    return PreparedScan(cine, prepared.probabilities)
