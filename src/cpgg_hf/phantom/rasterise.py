"""Turns star-shaped outlines in mm into soft coverage maps on the pixel grid.

A pixel's signed distance to an outline is read from the outline's radius over the angle about its centre; coverage
ramps linearly over the edge width, which stands for in-plane and through-plane partial volume.
"""

import numpy as np

from cpgg_hf.grid import GRID_SIZE, SPACING_MM

_NUM_ANGLES = 180


def pixel_coordinates() -> np.ndarray:
    """(96,) mm of the pixel centres from the image centre."""
    return ((np.arange(GRID_SIZE) - (GRID_SIZE - 1) / 2) * SPACING_MM).astype(np.float32)


class StarShape:
    """Signed distances of the pixels of a window to a moving star-shaped outline.

    Args:
        outline: (T, N, 2) closed outlines in image mm.
        margin_mm: How far beyond the outline distances are needed.
    """

    def __init__(self, outline: np.ndarray, margin_mm: float):
        grid = pixel_coordinates()
        low, high = outline.min(axis=(0, 1)) - margin_mm, outline.max(axis=(0, 1)) + margin_mm
        (left, top), (right, bottom) = np.searchsorted(grid, low), np.searchsorted(grid, high)
        self.window = ..., slice(int(top), int(bottom)), slice(int(left), int(right))  # that the shape ever touches
        centre = _centroid(outline).astype(np.float32)
        x, y = np.broadcast_arrays(*self.offsets(centre))
        radius = np.hypot(x, y)
        turn = (np.arctan2(y, x) * np.float32(_NUM_ANGLES / (2 * np.pi))) % np.float32(_NUM_ANGLES)
        below = turn.astype(np.int32) % _NUM_ANGLES
        share = turn - np.floor(turn)
        outline_radius, slope = _radius_tables(outline, centre)
        frames = np.arange(len(outline))[:, None, None]
        lower, upper = outline_radius[frames, below], outline_radius[frames, below + 1]
        # The distance to the outline is the radial gap seen under the outline's slant.
        self.distance = (lower + share * (upper - lower) - radius) * slope[frames, below]

    def offsets(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far the window's pixels lie right of (T, 1, w) and below (T, h, 1) a moving point (T, 2), in mm."""
        grid = pixel_coordinates()
        _, rows, columns = self.window
        x, y = points.T[:, :, None, None]
        return grid[columns] - x, grid[rows, None] - y

    def coverage(self, grow_mm: float = 0.0, edge_mm: float = 1.8) -> np.ndarray:
        """(T, h, w) share of each pixel inside the outline grown by `grow_mm`, ramping over `edge_mm`."""
        return np.clip((self.distance + np.float32(grow_mm)) / np.float32(edge_mm) + np.float32(0.5), 0.0, 1.0)

    def paint(self, image: np.ndarray, signal: np.ndarray | float, coverage: np.ndarray) -> None:
        """Blends `signal` (a number, or broadcastable to (T, h, w)) into image (T, 96, 96), in place."""
        view = image[self.window]
        view += coverage * (signal - view)

    def label(self, labels: np.ndarray, value: int, grow_mm: float = 0.0) -> None:
        """Sets labels (T, 96, 96) inside the grown outline, in place."""
        labels[self.window][self.distance + grow_mm > 0] = value


def _centroid(outline: np.ndarray) -> np.ndarray:
    x, y = outline[..., 0], outline[..., 1]
    next_x, next_y = np.roll(x, -1, -1), np.roll(y, -1, -1)
    cross = x * next_y - next_x * y
    total = cross.sum(axis=-1)
    return np.stack([((x + next_x) * cross).sum(-1), ((y + next_y) * cross).sum(-1)], axis=-1) / (3 * total[:, None])


def _radius_tables(outline: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Radius over a regular angle grid, (T, A + 1), and the cosine of the outline's slant, (T, A)."""
    relative = outline - centre[:, None]
    angles = np.arctan2(relative[..., 1], relative[..., 0]) % (2 * np.pi)
    order = np.argsort(angles, axis=1)
    angles = np.take_along_axis(angles, order, axis=1)
    points = np.take_along_axis(relative, order[..., None], axis=1)
    regular = np.arange(_NUM_ANGLES) * (2 * np.pi / _NUM_ANGLES)
    directions = np.stack([np.cos(regular), np.sin(regular)], axis=-1)
    table = np.empty((len(outline), _NUM_ANGLES + 1), dtype=np.float32)
    for frame in range(len(outline)):
        after = np.searchsorted(angles[frame], regular)
        first = points[frame][after - 1]
        edge = points[frame][after % points.shape[1]] - first
        # Where the ray at this angle meets the edge between the two neighbouring vertices.
        cross_edge = directions[:, 0] * edge[:, 1] - directions[:, 1] * edge[:, 0]
        cross_first = first[:, 0] * edge[:, 1] - first[:, 1] * edge[:, 0]
        table[frame, :-1] = cross_first / np.where(np.abs(cross_edge) < 1e-9, 1e-9, cross_edge)
    table[:, -1] = table[:, 0]
    gradient = np.diff(table, axis=1) * (_NUM_ANGLES / (2 * np.pi))
    middle = 0.5 * (table[:, 1:] + table[:, :-1])
    return table, middle / np.hypot(middle, gradient)
