"""Locate the heart in a cine by its motion: the large, compact region that beats.

The first two harmonics of the beat contain the heart's motion and little noise. Chest wall, vessels and flow artefacts
change too, but are thin, small or far from most of the motion: they add more area than motion to a disc. So the heart
is the disc, with a radius that hearts have, that contains the most motion for its area.
"""

import numpy as np
from scipy import ndimage, signal

from cpgg_hf.errors import InputError

_RADII_MM = (33.0, 40.0, 47.0, 54.0, 61.0, 68.0, 75.0)
_SMOOTHING_MM = 1.5
# Penalty per pixel of the disc, as a share of the mean motion around the bulk: chosen on embedded phantoms.
_AREA_COST = 0.3
_BULK_RADIUS_MM = 65.0


def motion_map(frames: np.ndarray, phases: np.ndarray, spacing_mm: float) -> np.ndarray:
    """The amplitude of each pixel's change over the beat.

    Args:
        frames: (T, H, W).
        phases: (T,) time of each frame as a share of the beat, in [0, 1).
        spacing_mm: pixel size.

    Returns:
        (H, W) float64 >= 0, amplitude of the first two harmonics over smoothed frames.
    """
    smooth = ndimage.gaussian_filter(frames.astype(np.float64), (0, *[_SMOOTHING_MM / spacing_mm] * 2))
    smooth -= smooth.mean(axis=0)
    power = np.zeros(frames.shape[1:])
    for harmonic in (1, 2):
        waves = np.exp(-2j * np.pi * harmonic * phases) / len(phases)
        power += np.abs(np.tensordot(waves, smooth, axes=1)) ** 2
    return np.sqrt(power)


def find_heart(frames: np.ndarray, phases: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Locate the centre of the beating heart.

    Args:
        frames: (T, H, W) on square pixels.
        phases: (T,) time of each frame as a share of the beat, in [0, 1).
        spacing_mm: pixel size.

    Returns:
        (2,) row and column.

    Raises:
        InputError: nothing in the image moves with the beat.
    """
    motion = motion_map(frames, phases, spacing_mm)
    floor, ceiling = np.median(motion), np.percentile(motion, 98)
    if ceiling - floor <= 1e-4 * np.abs(frames).max():
        raise InputError(
            "nothing in the image moves with the beat, so no heart can be located; provide a mask (`mask`, --mask)."
        )
    # The root keeps a weak ventricle next to a strong atrium; clipping limits bright inflow and fat.
    motion = np.sqrt(((motion - floor) / (ceiling - floor)).clip(0, 1))

    height, width = motion.shape
    rows, columns = np.mgrid[:height, :width]
    off_centre = ((rows / (height - 1) - 0.5) / 0.5) ** 2 + ((columns / (width - 1) - 0.5) / 0.5) ** 2
    motion *= np.exp(-0.5 * off_centre)  # hearts are scanned near the middle of the field

    bulk = ndimage.gaussian_filter(motion, 0.5 * _BULK_RADIUS_MM / spacing_mm, mode="constant")
    peak = np.unravel_index(np.argmax(bulk), bulk.shape)
    around = np.hypot(rows - peak[0], columns - peak[1]) * spacing_mm < _BULK_RADIUS_MM
    gain = motion - _AREA_COST * motion[around].mean()
    best_score, best = -np.inf, (0, 0)
    for radius_mm in _RADII_MM:
        disc = _disc(radius_mm / spacing_mm)
        reach = len(disc) // 2
        # No motion beyond the field, but the disc's area is penalised there too.
        padded = np.pad(gain, reach, constant_values=gain.min())
        scores = signal.fftconvolve(padded, disc, mode="valid")
        place = np.unravel_index(np.argmax(scores), scores.shape)
        if scores[place] > best_score:
            best_score, best = float(scores[place]), (int(place[0]), int(place[1]))
    return np.array(best, dtype=np.float64)


def _disc(radius: float) -> np.ndarray:
    """A disc of ones with a soft edge on a square of odd size."""
    reach = int(np.ceil(radius)) + 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return 1 / (1 + np.exp((np.hypot(x, y) - radius) / 1.5))
