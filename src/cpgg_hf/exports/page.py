"""Pictures with a title, captions and volume curves beside them: cines or frames in one row, still or moving."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf.exports.video import write_looping_picture
from cpgg_hf.files.staging import staged_file
from cpgg_hf.optional import import_optional

_PANEL_INCHES, _CURVES_INCHES, _DPI = 3.9, 3.6, 100
_MARK = np.array([90, 90, 90], dtype=np.uint8)  # the line at the shown time
_COLOURS = {"LV": "#d62728", "RV": "#1f5fd0", "LA": "#b8860b", "RA": "#0a9396"}


class Page:
    """One row of pictures and a plot of volumes over the beat.

    Args:
        title: above the page.
        captions: one below each picture.
        curves: name -> (T,) volume in mL; chambers' names have the colours of their outlines.
        frame_time_ms: time from one frame to the next.
        legend: name -> colour (3,) in 0 to 255 of the outlines in the pictures.
    """

    def __init__(
        self,
        title: str,
        captions: Sequence[str],
        curves: Mapping[str, np.ndarray],
        frame_time_ms: float,
        legend: Mapping[str, tuple[int, int, int]] | None = None,
    ) -> None:
        self._frame_time_ms = frame_time_ms
        size = (len(captions) * _PANEL_INCHES + _CURVES_INCHES, _PANEL_INCHES + (1.2 if legend else 0.9))
        self._figure = import_optional("matplotlib.figure", "pictures").Figure(figsize=size, dpi=_DPI)
        widths = [_PANEL_INCHES] * len(captions) + [_CURVES_INCHES]
        *self._pictures, self._plot = self._figure.subplots(1, len(widths), width_ratios=widths)
        for axis, caption in zip(self._pictures, captions, strict=True):
            axis.set_xlabel(caption, fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
        for name, curve in curves.items():
            times = np.arange(len(curve)) * frame_time_ms
            self._plot.plot(times, curve, label=name, color=_COLOURS.get(name))
        self._plot.set_xlabel("time after the R wave (ms)", fontsize=9)
        self._plot.set_ylabel("volume (mL)", fontsize=9)
        if curves:
            self._plot.set_ylim(bottom=0)
            self._plot.legend(fontsize=8)
        else:
            self._plot.text(0.5, 0.5, "no volume can be trusted", ha="center", transform=self._plot.transAxes)
        self._figure.suptitle(title, fontsize=10)
        if legend:
            patch = import_optional("matplotlib.patches", "pictures").Patch
            handles = [patch(color=np.array(colour) / 255, label=name) for name, colour in legend.items()]
            self._figure.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=8, frameon=False)
        self._figure.tight_layout(pad=0.6, rect=(0, 0.09 if legend else 0, 1, 1))

    def write_still(self, path: str | os.PathLike[str], pictures: Sequence[np.ndarray], frames: Sequence[int]) -> Path:
        """Write a PNG of one picture (h, w, 3) uint8 per caption; the plot marks the times of `frames`."""
        for axis, picture in zip(self._pictures, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
        for frame in frames:
            self._plot.axvline(frame * self._frame_time_ms, color=_MARK / 255, linewidth=1, linestyle=":")
        path = Path(path)
        with staged_file(path) as partial:
            self._figure.savefig(partial, format="png", dpi=150)
        return path

    def write_film(self, path: str | os.PathLike[str], films: Sequence[np.ndarray]) -> Path:
        """Write a GIF of one film (T, h, w, 3) uint8 per caption; a line in the plot follows the time."""
        for axis, film in zip(self._pictures, films, strict=True):
            axis.imshow(film[0])  # gives the axis the picture's shape
        frames = np.repeat(self._drawn()[None], len(films[0]), axis=0)
        for axis, film in zip(self._pictures, films, strict=True):
            rows, columns = self._pixels_of(axis)
            down = np.arange(rows.stop - rows.start) * film.shape[1] // (rows.stop - rows.start)
            right = np.arange(columns.stop - columns.start) * film.shape[2] // (columns.stop - columns.start)
            frames[:, rows, columns] = film[:, down][:, :, right]
        rows, _ = self._pixels_of(self._plot)
        for index, frame in enumerate(frames):
            x, _ = self._plot.transData.transform((index * self._frame_time_ms, 0))
            frame[rows, round(x) : round(x) + 1] = _MARK
        return write_looping_picture(path, "GIF", frames, self._frame_time_ms, clock_ms=10)

    def _drawn(self) -> np.ndarray:
        """The page (rows, columns, 3) uint8."""
        canvas = import_optional("matplotlib.backends.backend_agg", "pictures").FigureCanvasAgg(self._figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()

    def _pixels_of(self, axis: Any) -> tuple[slice, slice]:
        """Rows and columns of an axis on the drawn page."""
        box, height = axis.get_window_extent(), self._figure.bbox.height
        top, bottom, left, right = (round(x) for x in (height - box.y1, height - box.y0, box.x0, box.x1))
        return slice(top, bottom), slice(left, right)
