"""Resample a field of view to another pixel size, and a beat to another number of frames."""

from __future__ import annotations

import numpy as np
from scipy import interpolate, ndimage


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
