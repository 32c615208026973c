"""Crop a square of the grid's size out of a field of view; pixels beyond the field are filled."""

import numpy as np

from cpgg_hf.grid import GRID_SIZE
from cpgg_hf.phantom import LABELS


def crop(field: np.ndarray, first: np.ndarray, outside: float) -> np.ndarray:
    """The (T, 96, 96) crop of a field (T, H, W) that begins at row and column `first`, which may be negative.

    Args:
        field: on the grid's pixels.
        first: (2,) integers.
        outside: value beyond the edges of the field.
    """
    before = np.maximum(0, -first)
    after = np.maximum(0, first + GRID_SIZE - field.shape[1:])
    padding = ((0, 0), (before[0], after[0]), (before[1], after[1]))
    padded = np.pad(field, padding, constant_values=outside)
    top, left = first + before
    return padded[:, top : top + GRID_SIZE, left : left + GRID_SIZE]


def crop_probabilities(probabilities: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The (T, 7, 96, 96) crop of (T, 7, H, W); beyond the edges of the field everything is background."""
    channels = (crop(probabilities[:, label], first, float(name == "background")) for name, label in LABELS.items())
    return np.stack(list(channels), axis=1)


def share_outside(first: np.ndarray, shape: tuple[int, ...]) -> float:
    """The share of a crop's area that lies outside a field of `shape` rows and columns."""
    inside = np.maximum(0, np.minimum(first + GRID_SIZE, shape) - np.maximum(first, 0))
    return float(1 - np.prod(inside) / GRID_SIZE**2)
