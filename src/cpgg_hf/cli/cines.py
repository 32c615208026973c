"""Reads the cines that commands take: one from a NIfTI file or a DICOM folder, or all of a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cpgg_hf.cli.models import load_segmenter, segmenter_path
from cpgg_hf.errors import InputError
from cpgg_hf.grid import SPACING_MM

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from cpgg_hf.cine import Cine
    from cpgg_hf.measure.plausibility import PlausibleMeasurement

_FULL_SCALES = (1.0, 255.0, 4095.0)  # of the package's own files: float, and 8 or 12 bits as `write_dicom` stores them


@dataclass(frozen=True)
class MeasuredCine:
    """A cine on the package's grid with its segmentation and measurement.

    Attributes:
        cine: (T, H, W) in [0, 1].
        probabilities: (T, 7, H, W) of the structures in `phantom.LABELS`.
        measurement: the plausible measurement.
        warnings: about the reading and the measurement.
    """

    cine: Cine
    probabilities: np.ndarray
    measurement: PlausibleMeasurement
    warnings: tuple[str, ...]


def read_and_measure(
    path: str | os.PathLike[str],
    view: str = "4ch",
    segmenter: str | None = None,
    mask: str | None = None,
    model: str | None = None,
    upright: bool = False,
    rr_ms: float | None = None,
    series: str | None = None,
) -> MeasuredCine:
    """A cine on the package's grid, segmented and measured: the one way in which commands measure a file.

    Scans are measured in their whole field of view, synthetic and prepared cines as they are.

    Args:
        path: a NIfTI file or a DICOM folder.
        view: "4ch" refuses planes and images that look like another view; "any" takes every plane.
        segmenter: folder of the segmenter; None is the checkpoint's for scans, or for synthetic cines.
        mask: NIfTI file of labels, used instead of the segmenter, see `read_mask`.
        model: checkpoint of the segmenters; None is the shipped one.
        upright: whether to mirror the cine, see `to_display_orientation`; that does not change what is measured.
        rr_ms: RR interval if the files do not state it.
        series: which cine of several in a DICOM folder, see `read_scan`.

    Raises:
        InputError: it cannot be read, shows another view, no heart is detected, or the mask has labels of one frame.
    """
    from cpgg_hf.measure.plausibility import plausible
    from cpgg_hf.preparation.grid.prepare import measure_on_grid, to_display_orientation
    from cpgg_hf.preparation.one_scan import find_and_prepare

    scan, notes = read_view(path, view, rr_ms, series)
    scan = to_display_orientation(scan) if upright else scan
    cine = on_grid(scan) if mask is None else None
    if cine is None:
        finder = None if mask is not None else segmenter_path(segmenter, model, scans=True)
        prepared = find_and_prepare(scan, view, finder, mask, with_probabilities=True)
    else:
        prepared = measure_on_grid(cine, load_segmenter(segmenter, model, scans=cine.acquired), view)
    if prepared.probabilities is None or prepared.measurement is None:
        raise InputError(f"the mask {mask} has labels of one frame; give labels of every frame to measure them.")
    trusted = plausible(prepared.measurement)
    warnings = (*notes, *prepared.cine.warnings, *trusted.notes)
    return MeasuredCine(prepared.cine, prepared.probabilities, trusted, warnings)


def on_grid(scan: Cine) -> Cine | None:
    """A synthetic or prepared cine with its pixels in [0, 1]; None if the scan is not on the package's grid.

    Synthetic DICOM holds whole numbers of 8 or 12 bits.
    """
    from cpgg_hf.scans.checks import lies_on_grid

    scales = (1.0,) if scan.acquired else _FULL_SCALES
    for scale in scales:
        pixels = scan.pixels / scale
        if lies_on_grid(pixels, scan.spacing_mm):
            return replace(scan, pixels=pixels, scanner_units=False, spacing_mm=(SPACING_MM, SPACING_MM))
    return None


def read_view(
    path: str | os.PathLike[str], view: str, rr_ms: float | None = None, series: str | None = None
) -> tuple[Cine, tuple[str, ...]]:
    """A scan as acquired, and notes about its view; InputError if the plane looks like another view."""
    from cpgg_hf.preparation.grid.view import classify_view, require_view
    from cpgg_hf.scans import read_scan

    scan = read_scan(path, rr_ms, series=series)
    return scan, require_view(classify_view(scan.normal), view, scan.origin)


def read_cine_set(folder: str, split: str | None = None) -> list[Cine]:
    """All cines of a data set or of a folder of NIfTI files, see `cpgg_hf.dataset.cine_set.read_cines`."""
    from cpgg_hf.dataset.cine_set import read_cines

    return read_cines(folder, _one_of_many, split)


def _one_of_many(path: Path) -> Cine:
    from cpgg_hf.preparation.one_scan import find_and_prepare

    scan, _ = read_view(path, "any")
    cine = on_grid(scan)
    return find_and_prepare(scan, "any", segmenter_path(None, scans=True), None).cine if cine is None else cine
