"""Cines as frames on a screen: the shared part of GIF, WebP and MP4."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cpgg_hf.cine import Cine
from cpgg_hf.errors import CPGGWarning
from cpgg_hf.exports.checks import checked
from cpgg_hf.files.staging import staged_file

_MIN_DURATION_MS = 20  # viewers slow faster frames down to 100 ms
_LEFT_OUT = (
    "viewers show at most 50 frames of a GIF or WebP per second, so some frames of faster cines are left out there; "
    "MP4 and the other formats keep all."
)
_GAP = 2  # pixels between the cines of a grid
_SCALE = 2  # screen pixels per pixel; even, as H.264 needs even sizes


def video_frames(cines: Cine | Sequence[Cine], columns: int | None = None) -> tuple[np.ndarray, float]:
    """One cine, or several in a grid, as frames (T, 2 rows, 2 columns) uint8, and the mean frame time in ms.

    Args:
        cines: cines of the same shape.
        columns: cines per row of the grid; by default about as many as there are rows.

    Raises:
        ValueError: no cines, different shapes, or what `checked` refuses.
    """
    cines = [checked(cine) for cine in ([cines] if isinstance(cines, Cine) else cines)]
    shapes = {cine.pixels.shape for cine in cines}
    if len(shapes) != 1:
        raise ValueError(f"expected cines of one shape, given {sorted(shapes) or 'none'}.")
    grid = _grid(np.stack([cine.uint8 for cine in cines]), columns or int(np.ceil(np.sqrt(len(cines)))))
    return grid.repeat(_SCALE, 1).repeat(_SCALE, 2), float(np.mean([cine.frame_time_ms for cine in cines]))


def write_looping_picture(
    path: str | os.PathLike[str], kind: str, frames: np.ndarray, frame_time_ms: float, clock_ms: int, **options: Any
) -> Path:
    """Write a looping picture; of cines faster than viewers show, frames are left out with a warning.

    Its comment, in formats that have one, says how many of the frames it shows.

    Args:
        path: appears complete or not at all.
        kind: format name of pillow.
        frames: (T, rows, columns) uint8.
        frame_time_ms: time from one frame to the next.
        clock_ms: unit of the format's frame durations.
        options: options of pillow's `save`.
    """
    step_ms = max(frame_time_ms, _MIN_DURATION_MS)
    starts = np.arange(0, len(frames) * frame_time_ms - 1e-6, step_ms)
    shown = np.floor(starts / frame_time_ms + 1e-6).astype(int)
    ends = np.round(np.append(starts[1:], len(frames) * frame_time_ms) / clock_ms) * clock_ms
    durations = np.diff(np.append(0, ends)).clip(_MIN_DURATION_MS).astype(int).tolist()
    first, *others = [Image.fromarray(frames[index]) for index in shown]
    if len(shown) < len(frames):
        warnings.warn(_LEFT_OUT, CPGGWarning, stacklevel=3)
    options["comment"] = f"{len(shown)} of {len(frames)} frames of the beat"
    path = Path(path)
    with staged_file(path) as partial:
        first.save(partial, kind, save_all=True, append_images=others, duration=durations, loop=0, **options)
    return path


def _grid(stack: np.ndarray, columns: int) -> np.ndarray:
    """(N, T, H, W) to (T, rows * H + gaps, columns * W + gaps); empty places are black."""
    count, frames, height, width = stack.shape
    rows = -(-count // columns)
    cells = np.pad(stack, ((0, rows * columns - count), (0, 0), (0, _GAP), (0, _GAP)))
    grid = cells.reshape(rows, columns, *cells.shape[1:]).transpose(2, 0, 3, 1, 4)
    return grid.reshape(frames, rows * (height + _GAP), columns * (width + _GAP))[:, :-_GAP, :-_GAP]
