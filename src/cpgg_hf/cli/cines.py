"""Cines as the commands read them: one from NIfTI or DICOM, or all of a folder that the package wrote."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cpgg_hf.cli.models import segmenter_path
from cpgg_hf.dataset import DESCRIPTION_FILE, read_description
from cpgg_hf.errors import RequestError
from cpgg_hf.grid import SPACING_MM
from cpgg_hf.phenotypes import NAMES, read_csv

if TYPE_CHECKING:
    from cpgg_hf.cine import Cine


@dataclass(frozen=True)
class CineSet:
    """Cines of one folder.

    Attributes:
        cines: (T, H, W) each, uint8 or float in [0, 1].
        spacing_mm: (N,).
        frame_time_ms: (N,).
        phenotypes: (N, 82) what they were conditioned on or rendered from; NaN = not known.
    """

    cines: list[np.ndarray]
    spacing_mm: np.ndarray
    frame_time_ms: np.ndarray
    phenotypes: np.ndarray


@dataclass(frozen=True)
class OneCine:
    """A cine on the package's grid.

    Attributes:
        cine: (T, H, W), uint8 or float in [0, 1].
        spacing_mm: pixel size.
        frame_time_ms: RR / T.
        acquired: whether a scanner made it; generated cines and phantoms are measured by another segmenter.
        probabilities: (T, 7, H, W) of the mask that was given or of the scan's whole field; None where the cine lay
            on the grid already.
        warnings: what the user should know.
    """

    cine: np.ndarray
    spacing_mm: float
    frame_time_ms: float
    acquired: bool
    probabilities: np.ndarray | None = None
    warnings: tuple[str, ...] = ()


def read_cine(
    path: str | os.PathLike[str], view: str = "any", segmenter: str | None = None, mask: str | None = None
) -> OneCine:
    """A NIfTI file that lies on the package's grid as it is; any other one, and a DICOM folder, is prepared first.

    Preparing is resampling, cropping around the heart, normalising.

    Args:
        path: a NIfTI file or a DICOM folder.
        view: "4ch" refuses planes and images that look like another view; "any" takes every plane.
        segmenter: folder of the field segmenter that finds the heart; None is the shipped checkpoint's.
        mask: NIfTI file of labels that says where the heart is instead, see `read_mask`.

    Raises:
        InputError: it cannot be read, shows another view, or the heart is not surely found.
    """
    from cpgg_hf.preparation.one_scan import find_and_prepare
    from cpgg_hf.scans.checks import lies_on_grid

    series, notes = read_series(path, view)
    if mask is None and lies_on_grid(series.pixels, series.spacing_mm):
        notes = (*notes, *series.warnings)
        return OneCine(series.pixels, SPACING_MM, series.frame_time_ms, acquired=series.acquired, warnings=notes)
    finder = None if mask is not None else segmenter_path(segmenter, scans=True)
    prepared = find_and_prepare(series, view, finder, mask, with_probabilities=True)
    return OneCine(
        prepared.cine.pixels,
        prepared.cine.pixel_size_mm,
        prepared.cine.frame_time_ms,
        acquired=True,
        probabilities=prepared.probabilities,
        warnings=(*notes, *prepared.cine.warnings),
    )


def read_series(path: str | os.PathLike[str], view: str) -> "tuple[Cine, tuple[str, ...]]":
    """A DICOM folder or a NIfTI file as it was acquired, checked for its view, and warnings about that."""
    from cpgg_hf.preparation.grid.view import classify_view, require_view
    from cpgg_hf.scans import read_scan

    series = read_scan(path)
    return series, require_view(classify_view(series.normal), view, series.origin)


def read_cine_set(folder: str | os.PathLike[str], split: str | None = None) -> CineSet:
    """All cines of a folder of .nii.gz files that `cpgg generate` wrote, or of one split of a data set.

    Args:
        folder: as `cpgg generate` or `cpgg prepare` wrote it.
        split: of a data set; None is its only split, or of several the test split.

    Raises:
        RequestError: it is neither, or has no such split.
    """
    folder = Path(folder)
    if (folder / DESCRIPTION_FILE).is_file():
        return _read_dataset(folder, split)
    paths = sorted(folder.glob("*.nii.gz"))
    if not paths:
        raise RequestError(f"{folder} holds neither {DESCRIPTION_FILE} nor .nii.gz files; give a folder of cines.")
    if split is not None:
        raise RequestError(f"{folder} is no data set and has no split {split!r}; leave the split out.")
    cines = [read_cine(path) for path in paths]
    table = folder / "phenotypes.csv"
    phenotypes = read_csv(table) if table.is_file() else np.full((len(paths), len(NAMES)), np.nan)
    if len(phenotypes) != len(paths):
        raise RequestError(f"{table} has {len(phenotypes)} rows for {len(paths)} cines; expected one a cine.")
    return CineSet(
        [one.cine for one in cines],
        np.array([one.spacing_mm for one in cines]),
        np.array([one.frame_time_ms for one in cines]),
        phenotypes,
    )


def _read_dataset(folder: Path, split: str | None) -> CineSet:
    from cpgg_hf.dataset import decode_cine, load_cines

    rows = load_cines(folder, _only_or_test(folder) if split is None else split)
    return CineSet(
        [decode_cine(row) for row in rows],
        np.array(rows["spacing_mm"]),
        np.array(rows["frame_time_ms"]),
        np.array(rows["phenotypes"], dtype=np.float64),
    )


def _only_or_test(folder: Path) -> str:
    splits = list(read_description(folder)["splits"])
    if len(splits) == 1:
        return splits[0]
    if "test" not in splits:
        raise RequestError(f"{folder} has the splits {', '.join(splits) or 'none'}, no test split; say which to read.")
    return "test"
