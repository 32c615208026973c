"""Still pictures of beating hearts: chosen frames of several cines with a caption under each (figure 2)."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cpgg_hf.files.staging import staged_file
from cpgg_hf.optional import import_optional

_INCHES = 1.9


def cine_sheet(
    cines: Sequence[np.ndarray],
    captions: Sequence[str],
    frames: Sequence[Sequence[int]],
    path: str | os.PathLike[str],
    frame_names: Sequence[str] = ("ED", "ES"),
    title: str = "",
) -> Path:
    """Draws a column a cine: its frames one below the other, and its caption under them.

    Args:
        cines: (T, H, W) each, uint8 or float in [0, 1].
        captions: one a cine; may have several lines.
        frames: the frames to show, one sequence a cine, as long as `frame_names`.
        path: the PNG; appears whole or not at all.
        frame_names: what the rows show.
        title: above the sheet.
    """
    if not len(cines) == len(captions) == len(frames):
        raise ValueError(
            f"{len(cines)} cines, {len(captions)} captions and {len(frames)} sets of frames do not match."
        )
    lines = max(caption.count("\n") + 1 for caption in captions)
    rows, columns = len(frame_names), len(cines)
    size = (columns * _INCHES + 0.3, rows * _INCHES + 0.15 * lines + 0.4)
    figure = import_optional("matplotlib.figure", "pictures").Figure(figsize=size)
    axes = figure.subplots(rows, columns, squeeze=False)
    for column, (cine, caption, shown) in enumerate(zip(cines, captions, frames, strict=True)):
        for row, frame in enumerate(shown):
            _show(axes[row, column], cine[frame])
        axes[-1, column].set_xlabel(caption, fontsize=7, family="monospace", multialignment="left")
    for row, name in enumerate(frame_names):
        axes[row, 0].set_ylabel(name, fontsize=9)
    return _save(figure, path, title)


def side_by_side(
    cines: Sequence[np.ndarray],
    names: Sequence[str],
    path: str | os.PathLike[str],
    num_frames: int = 6,
    title: str = "",
) -> Path:
    """Draws a row a cine: `num_frames` frames spread evenly over the beat, the same moments in each row.

    Args:
        cines: (T, H, W) each, uint8 or float in [0, 1]; as many frames each.
        names: one a cine, beside its row.
        path: the PNG; appears whole or not at all.
        num_frames: how many frames to show.
        title: above the picture.
    """
    moments = np.arange(num_frames) * len(cines[0]) // num_frames
    size = (num_frames * _INCHES + 0.3, len(cines) * _INCHES + 0.5)
    figure = import_optional("matplotlib.figure", "pictures").Figure(figsize=size)
    axes = figure.subplots(len(cines), num_frames, squeeze=False)
    for row, (cine, name) in enumerate(zip(cines, names, strict=True)):
        for column, frame in enumerate(moments):
            _show(axes[row, column], cine[frame])
            axes[0, column].set_title(f"{100 * frame / len(cine):.0f}% of the beat", fontsize=8)
        axes[row, 0].set_ylabel(name, fontsize=9)
    return _save(figure, path, title)


def _show(axis, frame: np.ndarray) -> None:
    axis.imshow(frame, cmap="gray", vmin=0, vmax=255 if frame.dtype == np.uint8 else 1, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])


def _save(figure, path: str | os.PathLike[str], title: str) -> Path:
    path = Path(path)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout(pad=0.4)
    with staged_file(path) as partial:
        figure.savefig(partial, format="png", dpi=150)
    return path
