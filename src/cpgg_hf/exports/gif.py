"""Cines as GIF or WebP, alone or side by side, at the heart's own speed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf.files.staging import staged_file
from cpgg_hf.optional import import_optional

_MIN_DURATION_MS = 20  # viewers slow faster frames down to 100 ms
_GAP = 2


def write_gif(
    path: str | os.PathLike[str],
    cines: np.ndarray | Sequence[np.ndarray],
    frame_time_ms: float = 20.0,
    columns: int | None = None,
    scale: int = 2,
) -> Path:
    """Write one cine, or a grid of cines of the same shape, as a GIF that loops.

    GIF counts time in 10 ms and viewers show at most 50 frames a second; of faster cines, frames are left out so that
    a beat lasts as long as it should.

    Args:
        path: the GIF.
        cines: (T, H, W), or several as (N, T, H, W) or a list; uint8, or float in [0, 1].
        frame_time_ms: time from one frame to the next, the same for all.
        columns: cines in a row of the grid; by default about as many as there are rows.
        scale: screen pixels a pixel.
    """
    frames = picture_frames(cines, frame_time_ms, columns, scale)
    return _write(path, "GIF", frames, frame_time_ms, clock_ms=10)


def write_webp(
    path: str | os.PathLike[str],
    cines: np.ndarray | Sequence[np.ndarray],
    frame_time_ms: float = 20.0,
    columns: int | None = None,
    scale: int = 2,
) -> Path:
    """Write one cine, or a grid of cines, as a lossless WebP that loops; the arguments are those of `write_gif`.

    WebP counts time in ms; viewers show at most 50 frames a second here too.
    """
    frames = picture_frames(cines, frame_time_ms, columns, scale)
    return _write(path, "WEBP", frames, frame_time_ms, clock_ms=1, lossless=True)


def picture_frames(
    cines: np.ndarray | Sequence[np.ndarray], frame_time_ms: float, columns: int | None, scale: int
) -> np.ndarray:
    """One cine or a grid of several as (T, rows, columns) uint8 in screen pixels; arguments as in `write_gif`."""
    stack = np.stack([_as_uint8(cine) for cine in ([cines] if np.ndim(cines[0]) == 2 else cines)])
    if stack.ndim != 4 or not (np.isfinite(frame_time_ms) and frame_time_ms > 0):
        raise ValueError(
            f"expected cines (T, H, W) and a positive frame time, given shape {stack.shape} and {frame_time_ms} ms."
        )
    grid = _grid(stack, columns or int(np.ceil(np.sqrt(len(stack)))))
    return grid.repeat(scale, 1).repeat(scale, 2)


def _write(
    path: str | os.PathLike[str], form: str, frames: np.ndarray, frame_time_ms: float, clock_ms: int, **options: Any
) -> Path:
    """Write a picture that loops; of frames faster than viewers show, some are left out."""
    image_module = import_optional("PIL.Image", "pictures")
    step_ms = max(frame_time_ms, _MIN_DURATION_MS)
    starts = np.arange(0, len(frames) * frame_time_ms - 1e-6, step_ms)
    shown = np.floor(starts / frame_time_ms + 1e-6).astype(int)
    ends = np.round(np.append(starts[1:], len(frames) * frame_time_ms) / clock_ms) * clock_ms
    durations = np.diff(np.append(0, ends)).clip(_MIN_DURATION_MS).astype(int).tolist()
    pictures = [image_module.fromarray(frames[index]) for index in shown]
    path = Path(path)
    with staged_file(path) as partial:
        pictures[0].save(
            partial, form, save_all=True, append_images=pictures[1:], duration=durations, loop=0, **options
        )  # fmt: skip
    return path


def _as_uint8(cine: Any) -> np.ndarray:
    cine = np.asarray(cine)
    return cine if cine.dtype == np.uint8 else np.round(cine.clip(0, 1) * 255).astype(np.uint8)


def _grid(stack: np.ndarray, columns: int) -> np.ndarray:
    """(N, T, H, W) to (T, rows * H + gaps, columns * W + gaps); empty places are black."""
    count, frames, height, width = stack.shape
    rows = -(-count // columns)
    grid = np.zeros((frames, rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP), np.uint8)
    for index, cine in enumerate(stack):
        top, left = (index // columns) * (height + _GAP), (index % columns) * (width + _GAP)
        grid[:, top : top + height, left : left + width] = cine
    return grid
