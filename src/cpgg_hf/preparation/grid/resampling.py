"""Resample a field of view and a beat, crop to the grid, and scale the intensities."""

import numpy as np
from scipy import interpolate, ndimage

from cpgg_hf.grid import BRIGHT_LEVEL, GRID_SIZE

_PERCENTILES = (1.0, 99.0)


def resampled_grid(
    shape: tuple[int, ...], acquired_spacing_mm: tuple[float, float], spacing_mm: float
) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """Shape of a resampled field, and (ratio, offset): its pixel i is the acquired pixel `i * ratio + offset`."""
    ratio = spacing_mm / np.asarray(acquired_spacing_mm)
    resampled = np.maximum(1, np.round(np.array(shape) / ratio)).astype(int)
    offset = (np.array(shape) - 1) / 2 - ratio * (resampled - 1) / 2
    return (int(resampled[0]), int(resampled[1])), ratio, offset


def resample_field(frames: np.ndarray, acquired_spacing_mm: tuple[float, float], spacing_mm: float) -> np.ndarray:
    """Resample frames (T, H, W) to square pixels, (T, H', W') float32; the centre of the field stays in place."""
    shape, ratio, offset = resampled_grid(frames.shape[1:], acquired_spacing_mm, spacing_mm)
    blur = 0.42 * np.sqrt(np.maximum(ratio**2 - 1, 0))  # against aliasing, where pixels become larger
    resampled = np.empty((len(frames), *shape), dtype=np.float32)
    for index, frame in enumerate(frames):
        smooth = ndimage.gaussian_filter(frame.astype(np.float32), blur, mode="nearest")
        resampled[index] = ndimage.affine_transform(
            smooth, ratio, offset=offset, output_shape=shape, order=3, mode="nearest"
        ).clip(float(frame.min()), float(frame.max()))
    return resampled


def resample_beat(frames: np.ndarray, phases: np.ndarray, num_frames: int) -> np.ndarray:
    """Resample frames (T, ...) at rising phases in [0, 1) to `num_frames` even phases, by a periodic cubic spline."""
    around = np.concatenate([frames, frames[:1]])
    spline = interpolate.CubicSpline(np.append(phases, phases[0] + 1), around, axis=0, bc_type="periodic")
    return spline(np.arange(num_frames) / num_frames)


def crop(field: np.ndarray, first: np.ndarray, outside: float) -> np.ndarray:
    """The (T, 96, 96) crop of a field (T, H, W) that begins at row and column `first` (2,), which may be negative.

    Pixels beyond the field are `outside`.
    """
    before = np.maximum(0, -first)
    after = np.maximum(0, first + GRID_SIZE - field.shape[1:])
    padding = ((0, 0), (before[0], after[0]), (before[1], after[1]))
    padded = np.pad(field, padding, constant_values=outside)
    top, left = first + before
    return padded[:, top : top + GRID_SIZE, left : left + GRID_SIZE]


def normalise(frames: np.ndarray) -> np.ndarray:
    """Scale intensities of any range to float32 in [0, 1]: the 1st percentile becomes 0, the 99th `BRIGHT_LEVEL`.

    Percentiles of all frames ignore single pixels. Frames without contrast become black.
    """
    low, high = np.percentile(frames, _PERCENTILES)
    if high <= low:
        low, high = float(frames.min()), float(frames.max())
    if high <= low:
        return np.zeros(frames.shape, dtype=np.float32)
    return ((frames - low) / (high - low) * BRIGHT_LEVEL).clip(0, 1).astype(np.float32)
