"""Still images of cines: selected frames with captions, as in the paper's figure 2."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.files.staging import staged_file
from cpgg_hf.optional import import_optional

_INCHES = 1.9  # per frame
_NUM_MOMENTS = 6


def cine_sheet(
    path: str | os.PathLike[str],
    cines: Sequence[Cine],
    captions: Sequence[str],
    end_systole: Sequence[int],
    title: str,
) -> Path:
    """Draw one column per cine: its end-diastolic and end-systolic frame, and its caption below them.

    Args:
        path: the PNG; appears complete or not at all.
        cines: at end diastole in frame 0.
        captions: one per cine; may have several lines.
        end_systole: the end-systolic frame of each cine.
        title: above the sheet.
    """
    lines = max(caption.count("\n") + 1 for caption in captions)
    figure, axes = _figure(2, len(cines), 0.15 * lines + 0.4)
    for (diastole, systole), cine, caption, frame in zip(axes.T, cines, captions, end_systole, strict=True):
        _show(diastole, cine.uint8[0])
        _show(systole, cine.uint8[frame])
        systole.set_xlabel(caption, fontsize=7, family="monospace", multialignment="left")
    for row, name in enumerate(("end diastole", "end systole")):
        axes[row, 0].set_ylabel(name, fontsize=9)
    return _save(figure, path, title)


def side_by_side(path: str | os.PathLike[str], cines: Sequence[Cine], names: Sequence[str], title: str) -> Path:
    """Draw one row per cine: frames spread evenly over the beat, the same moments in each row.

    Args:
        path: the PNG; appears complete or not at all.
        cines: with the same number of frames.
        names: one per cine, beside its row.
        title: above the sheet.
    """
    figure, axes = _figure(len(cines), _NUM_MOMENTS, 0.7)
    for row, (cine, name) in enumerate(zip(cines, names, strict=True)):
        for column, frame in enumerate(np.arange(_NUM_MOMENTS) * len(cine) // _NUM_MOMENTS):
            _show(axes[row, column], cine.uint8[frame])
            axes[0, column].set_title(f"{frame * cine.frame_time_ms:.0f} ms after the R wave", fontsize=8)
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
