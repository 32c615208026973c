"""Still pictures of cines: chosen frames with captions, as in the paper's figure 2."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.files.staging import staged_file
from cpgg_hf.optional import import_optional

_INCHES = 1.9


def cine_sheet(
    path: str | os.PathLike[str],
    cines: Sequence[Cine],
    captions: Sequence[str],
    frames: Sequence[Sequence[int]],
    frame_names: Sequence[str] = ("ED", "ES"),
    title: str = "",
) -> Path:
    """Draw one column per cine: its frames one below the other, and its caption below them.

    Args:
        path: the PNG; appears complete or not at all.
        cines: in their order.
        captions: one per cine; may have several lines.
        frames: the frames to show, one sequence per cine, as long as `frame_names`.
        frame_names: what the rows show.
        title: above the sheet.
    """
    if not len(cines) == len(captions) == len(frames):
        raise ValueError(
            f"{len(cines)} cines, {len(captions)} captions and {len(frames)} sets of frames do not match."
        )
    lines = max(caption.count("\n") + 1 for caption in captions)
    rows, columns = len(frame_names), len(cines)
    figure, axes = _figure(rows, columns, 0.15 * lines + 0.4)
    for column, (cine, caption, shown) in enumerate(zip(cines, captions, frames, strict=True)):
        for row, frame in enumerate(shown):
            _show(axes[row, column], cine.uint8[frame])
        axes[-1, column].set_xlabel(caption, fontsize=7, family="monospace", multialignment="left")
    for row, name in enumerate(frame_names):
        axes[row, 0].set_ylabel(name, fontsize=9)
    return _save(figure, path, title)


def side_by_side(
    path: str | os.PathLike[str],
    cines: Sequence[Cine],
    names: Sequence[str],
    num_frames: int = 6,
    title: str = "",
) -> Path:
    """Draw one row per cine: `num_frames` frames spread evenly over the beat, the same moments in each row.

    Args:
        path: the PNG; appears complete or not at all.
        cines: with the same number of frames.
        names: one per cine, beside its row.
        num_frames: how many frames to show.
        title: above the picture.
    """
    figure, axes = _figure(len(cines), num_frames, 0.5)
    for row, (cine, name) in enumerate(zip(cines, names, strict=True)):
        for column, frame in enumerate(np.arange(num_frames) * len(cine) // num_frames):
            _show(axes[row, column], cine.uint8[frame])
            axes[0, column].set_title(f"{100 * frame / len(cine):.0f}% of the beat", fontsize=8)
        axes[row, 0].set_ylabel(name, fontsize=9)
    return _save(figure, path, title)


def _figure(rows: int, columns: int, margin: float) -> tuple[Any, Any]:
    size = (columns * _INCHES + 0.3, rows * _INCHES + margin)
    figure = import_optional("matplotlib.figure", "pictures").Figure(figsize=size)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _show(axis: Any, frame: np.ndarray) -> None:
    axis.imshow(frame, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])


def _save(figure: Any, path: str | os.PathLike[str], title: str) -> Path:
    path = Path(path)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout(pad=0.4)
    with staged_file(path) as partial:
        figure.savefig(partial, format="png", dpi=150)
    return path
