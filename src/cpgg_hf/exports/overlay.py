"""The segmentation drawn on its cine: `overlay.png` (end diastole, end systole) and `overlay.gif` (the beat)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import ndimage

from cpgg_hf.cine import Cine
from cpgg_hf.exports.page import Page
from cpgg_hf.phantom import LABELS

PICTURES = ("overlay.png", "overlay.gif")
COLOURS = {
    "LV myocardium": (70, 200, 90),
    "LV cavity": (230, 60, 60),
    "RV cavity": (70, 120, 255),
    "LA": (250, 200, 40),
    "RA": (60, 220, 230),
    "descending aorta": (230, 90, 230),
}
_SCALE = 4  # screen pixels per pixel
_LINE = 2  # screen pixels


def kind_of(cine: Cine) -> str:
    """The word "scan" or "synthetic", for titles and captions."""
    return "scan" if cine.acquired else "synthetic"


def draw_outlines(cine: Cine, probabilities: np.ndarray) -> np.ndarray:
    """The cine in grey with each structure's outline in its colour.

    Args:
        cine: (T, H, W).
        probabilities: (T, 7, H, W), channels as `phantom.LABELS`.

    Returns:
        (T, 4 H, 4 W, 3) uint8.
    """
    pictures = as_pictures(cine)
    for picture, frame in zip(pictures, probabilities, strict=True):
        labels = ndimage.zoom(frame, (1, _SCALE, _SCALE), order=1, grid_mode=True, mode="nearest").argmax(axis=0)
        for name, colour in COLOURS.items():
            # The cavity's outline is the wall's inner one.
            inside = np.isin(labels, [LABELS["LV cavity"], LABELS[name]] if name == "LV myocardium" else LABELS[name])
            picture[inside & ~ndimage.binary_erosion(inside, iterations=_LINE, border_value=1)] = colour
    return pictures


def as_pictures(cine: Cine) -> np.ndarray:
    """The cine as (T, 4 H, 4 W, 3) uint8 in grey."""
    enlarged = cine.uint8.repeat(_SCALE, axis=1).repeat(_SCALE, axis=2)
    return np.repeat(enlarged[..., None], 3, axis=3)


def write_overlay(
    folder: Path, cine: Cine, probabilities: np.ndarray, volumes_ml: Mapping[str, np.ndarray], end_systole: int | None
) -> None:
    """Write `PICTURES` into a folder.

    Args:
        folder: exists.
        cine: (T, H, W).
        probabilities: (T, 7, H, W), channels as `phantom.LABELS`.
        volumes_ml: chamber -> (T,) mL, those that can be trusted.
        end_systole: None if it cannot be trusted: then a third of the beat is shown.
    """
    outlined = draw_outlines(cine, probabilities)
    late = len(cine) // 3 if end_systole is None else end_systole
    rows, columns = cine.pixels.shape[1:]
    title = f"Segmentation of a {'scan' if cine.acquired else 'synthetic cine'}: {columns} x {rows} pixels of "
    title += f"{cine.pixel_size_mm:.3g} mm, RR interval {cine.rr_ms:.0f} ms"
    name = "end systole" if end_systole is not None else "end systole unknown"
    captions = [f"end diastole (frame 0, {kind_of(cine)})"]
    captions += [f"{name} (frame {late}, {late * cine.frame_time_ms:.0f} ms, {kind_of(cine)})"]
    page = Page(title, captions, volumes_ml, cine.frame_time_ms, COLOURS)
    page.write_still(folder / PICTURES[0], [outlined[0], outlined[late]], [0, late])
    page = Page(title, [f"the beat ({kind_of(cine)})"], volumes_ml, cine.frame_time_ms, COLOURS)
    page.write_film(folder / PICTURES[1], [outlined])
