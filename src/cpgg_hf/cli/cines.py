"""Reads the cines that commands take: one from a NIfTI file or a DICOM folder, or all of a folder."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from cpgg_hf.cli.models import segmenter_path
from cpgg_hf.grid import SPACING_MM

if TYPE_CHECKING:
    import numpy as np

    from cpgg_hf.cine import Cine


def read_cine(
    path: str | os.PathLike[str], view: str = "any", segmenter: str | None = None, mask: str | None = None
) -> tuple[Cine, np.ndarray | None]:
    """A cine on the package's grid; one that is not on the grid, or comes with a mask, is prepared first.

    Args:
        path: a NIfTI file or a DICOM folder.
        view: "4ch" refuses planes and images that look like another view; "any" takes every plane.
        segmenter: folder of the segmenter that locates the heart; None is the shipped checkpoint's.
        mask: NIfTI file of labels, used instead of the segmenter, see `read_mask`.

    Returns:
        The cine and, if it was prepared, the probabilities (T, 7, H, W) of its structures.

    Raises:
        InputError: it cannot be read, shows another view, or no heart is detected.
    """
    from cpgg_hf.preparation.one_scan import find_and_prepare
    from cpgg_hf.scans.checks import lies_on_grid

    scan, notes = read_view(path, view)
    if mask is None and lies_on_grid(scan.pixels, scan.spacing_mm):
        spacing_mm, warnings = (SPACING_MM, SPACING_MM), (*notes, *scan.warnings)
        return replace(scan, scanner_units=False, spacing_mm=spacing_mm, warnings=warnings), None
    finder = None if mask is not None else segmenter_path(segmenter, scans=True)
    prepared = find_and_prepare(scan, view, finder, mask, with_probabilities=True)
    return replace(prepared.cine, warnings=(*notes, *prepared.cine.warnings)), prepared.probabilities


def read_view(path: str | os.PathLike[str], view: str) -> tuple[Cine, tuple[str, ...]]:
    """A scan as acquired, and notes about its view; InputError if the plane looks like another view."""
    from cpgg_hf.preparation.grid.view import classify_view, require_view
    from cpgg_hf.scans import read_scan

    scan = read_scan(path)
    return scan, require_view(classify_view(scan.normal), view, scan.origin)


def read_cine_set(folder: str, split: str | None = None) -> list[Cine]:
    """All cines of a data set or of a folder of NIfTI files, see `cpgg_hf.dataset.cine_set.read_cines`."""
    from cpgg_hf.dataset.cine_set import read_cines

    return read_cines(folder, lambda path: read_cine(path)[0], split)
