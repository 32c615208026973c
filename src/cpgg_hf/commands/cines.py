"""Cines as the commands read them: one from NIfTI or DICOM, or all of a folder that the package wrote."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cpgg_hf.commands.errors import CommandError
from cpgg_hf.data.cine_dataset import DESCRIPTION_FILE
from cpgg_hf.phantom.rasterise import GRID_SIZE, SPACING_MM
from cpgg_hf.phantom.volume_curves import NUM_FRAMES
from cpgg_hf.phenotypes import NAMES, read_csv

if TYPE_CHECKING:
    from cpgg_hf.data.cine_series import CineSeries


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


def read_cine(path: str | os.PathLike[str], view: str = "any") -> tuple[np.ndarray, float, float, tuple[str, ...]]:
    """One cine: (T, H, W) in [0, 1], spacing in mm, frame time in ms, and warnings.

    A NIfTI file that is on the package's grid already, in [0, 1], is taken as it is; any other one, and a DICOM
    folder, is prepared first (resampled, cropped around the heart, normalised).

    Args:
        path: a NIfTI file or a DICOM folder.
        view: "4ch" refuses planes that look like another view; "any" takes every plane.

    Raises:
        PreparationError: it cannot be read, or shows another view.
    """
    from cpgg_hf.preparation.cine import prepare_series

    series, notes = read_series(path, view)
    frames = series.frames
    on_grid = frames.shape == (NUM_FRAMES, GRID_SIZE, GRID_SIZE) and np.allclose(
        series.pixel_spacing_mm, SPACING_MM, atol=1e-3
    )
    if on_grid and frames.min() >= 0 and frames.max() <= 1:
        return frames, SPACING_MM, series.frame_time_ms, (*notes, *series.warnings)
    prepared = prepare_series(series)
    return prepared.cine, prepared.spacing_mm, prepared.frame_time_ms, (*notes, *prepared.warnings)


def read_series(path: str | os.PathLike[str], view: str) -> "tuple[CineSeries, tuple[str, ...]]":
    """A DICOM folder or a NIfTI file as it was acquired, checked for its view, and warnings about that."""
    from cpgg_hf.data.dicom import read_dicom_folder
    from cpgg_hf.data.nifti import read_nifti
    from cpgg_hf.preparation.view import judge_view, require_view

    series = read_dicom_folder(path) if Path(path).is_dir() else read_nifti(path)
    return series, require_view(judge_view(series.normal), view, series.origin)


def read_cine_set(folder: str | os.PathLike[str], split: str = "test") -> CineSet:
    """All cines of a folder that `cpgg generate` wrote, or of one split of a data set that `cpgg prepare` wrote.

    Raises:
        CommandError: it is neither.
    """
    folder = Path(folder)
    if (folder / DESCRIPTION_FILE).is_file():
        return _read_dataset(folder, split)
    paths = sorted(folder.glob("*.nii.gz"))
    if not paths:
        raise CommandError(f"{folder} holds neither {DESCRIPTION_FILE} nor .nii.gz files; give a folder of cines.")
    cines, spacings, frame_times, _ = zip(*(read_cine(path) for path in paths), strict=True)
    table = folder / "phenotypes.csv"
    phenotypes = read_csv(table) if table.is_file() else np.full((len(paths), len(NAMES)), np.nan)
    if len(phenotypes) != len(paths):
        raise CommandError(f"{table} has {len(phenotypes)} rows for {len(paths)} cines; expected one a cine.")
    return CineSet(list(cines), np.array(spacings), np.array(frame_times), phenotypes)


def _read_dataset(folder: Path, split: str) -> CineSet:
    from cpgg_hf.data.cine_dataset import decode_cine, load_cines

    rows = load_cines(folder, split)
    return CineSet(
        [decode_cine(row) for row in rows],
        np.array(rows["spacing_mm"]),
        np.array(rows["frame_time_ms"]),
        np.array(rows["phenotypes"], dtype=np.float64),
    )
