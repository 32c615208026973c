"""Sub-pixel lengths from label probabilities: the heart's own axes, flat ends and pointed ends of chambers.

A chamber is seen in heart coordinates: y along the LV's long axis from apex to base, x across it towards the lateral
wall, both in mm. Lengths come from sums of probabilities, never from thresholds, so that blur does not move them.
"""

from dataclasses import dataclass

import numpy as np
import torch

# Beyond the reach of blur, and close enough to the valve that the middle columns run straight to it.
_LEVEL_BEFORE_VALVE_MM = 8.0


@dataclass(frozen=True)
class HeartFrame:
    """The heart's position in the image; fixed over the cycle.

    Attributes:
        origin: (2,) mm (right, down) from the image centre: the LV cavity's centroid over the cycle.
        axis: (2,) unit vector along the LV's long axis, apex to base.
        across: (2,) unit vector across it, towards the LV's lateral wall.
    """

    origin: np.ndarray
    axis: np.ndarray
    across: np.ndarray


def find_heart_frame(lv: torch.Tensor, rv: torch.Tensor, la: torch.Tensor, spacing_mm: float) -> HeartFrame:
    """The heart's axes: the LV cavity's principal axis, pointed at the LA, with the RV on the septal side.

    Args:
        lv: (T, H, W) probability of the LV cavity.
        rv: (T, H, W) probability of the RV cavity.
        la: (T, H, W) probability of the LA.
        spacing_mm: pixel size.
    """
    total = lv.double().sum(dim=0)
    origin, moments = _centroid(total, spacing_mm)
    axis = torch.linalg.eigh(moments).eigenvectors[:, -1]
    towards_base = _centroid(la.double().sum(dim=0), spacing_mm)[0] - origin
    axis = axis * torch.sign(axis @ towards_base)
    across = torch.stack([-axis[1], axis[0]])
    towards_septum = _centroid(rv.double().sum(dim=0), spacing_mm)[0] - origin
    across = -across * torch.sign(across @ towards_septum)
    return HeartFrame(origin.numpy(), axis.numpy(), across.numpy())


def _centroid(weights: torch.Tensor, spacing_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Centroid (2,) and second moments (2, 2), in mm, of an (H, W) map."""
    height, width = weights.shape
    x = (torch.arange(width, dtype=weights.dtype) - (width - 1) / 2) * spacing_mm
    y = (torch.arange(height, dtype=weights.dtype) - (height - 1) / 2) * spacing_mm
    total = weights.sum()
    centre = torch.stack([weights.sum(0) @ x, weights.sum(1) @ y]) / total
    x, y = x - centre[0], y - centre[1]
    cross = y @ weights @ x
    moments = torch.stack([weights.sum(0) @ x**2, cross, cross, weights.sum(1) @ y**2]).reshape(2, 2) / total
    return centre, moments


def sample(maps: torch.Tensor, points_mm: torch.Tensor, spacing_mm: float) -> torch.Tensor:
    """Values of maps (F, C, H, W) at image points (..., 2) in mm, bilinear, zero outside: (F, C, ...)."""
    height, width = maps.shape[-2:]
    half = 0.5 * spacing_mm * torch.tensor([width, height], dtype=maps.dtype)
    grid = (points_mm.to(maps.dtype) / half).reshape(1, 1, -1, 2).expand(len(maps), -1, -1, -1)
    values = torch.nn.functional.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return values.reshape(*maps.shape[:2], *points_mm.shape[:-1])


def to_image(frame: HeartFrame, across_mm: torch.Tensor, along_mm: torch.Tensor) -> torch.Tensor:
    """Image points (..., 2) in mm of heart coordinates."""
    origin, axis, across = (torch.from_numpy(v).to(across_mm.dtype) for v in (frame.origin, frame.axis, frame.across))
    return origin + across_mm[..., None] * across + along_mm[..., None] * axis


def pointed_end(
    profile: np.ndarray, along_mm: np.ndarray, exponent: float, fractions: tuple[float, float]
) -> np.ndarray:
    """Where a chamber that narrows to a tip begins, extrapolated from its cumulative area.

    Near the tip the area grows as distance ** exponent (1.5 for a round tip), so the heights of two area shares give
    that of zero area.

    Args:
        profile: (T, N) width over height, starting outside the tip.
        along_mm: (N,) heights, ascending or descending with the profile.
        exponent: exponent of the cumulative area.
        fractions: the two shares of the chamber's area.

    Returns:
        (T,) mm.
    """
    cumulative = np.cumsum(profile, axis=1)
    cumulative /= cumulative[:, -1:]
    step = along_mm[1] - along_mm[0]
    low, high = (np.array([np.interp(share, row, along_mm + 0.5 * step) for row in cumulative]) for share in fractions)
    ratio = (fractions[0] / fractions[1]) ** (1 / exponent)
    return (low - ratio * high) / (1 - ratio)


def flat_end(maps: np.ndarray, across_mm: np.ndarray, along_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The line at which a chamber ends at its valve: from the length of each middle column beyond a level.

    Args:
        maps: (T, N, M) probabilities over height and width.
        across_mm: (M,) widths.
        along_mm: (N,) heights, running towards the valve (ascending or descending).

    Returns:
        (T,) mm, the line's height at its middle, and (T,) its slope.
    """
    step = along_mm[1] - along_mm[0]
    cumulative = np.cumsum(maps.sum(axis=2), axis=1)
    cumulative /= cumulative[:, -1:]
    heights, slopes = [], []
    for frame, share in zip(maps, cumulative, strict=True):
        end = np.interp(0.97, share, along_mm)
        level = int(np.argmin(np.abs(along_mm - (end - np.sign(step) * _LEVEL_BEFORE_VALVE_MM))))
        width = frame[level].sum() * np.abs(across_mm[1] - across_mm[0])
        deviation = across_mm - (frame[level] @ across_mm) / frame[level].sum()
        # Outer columns may end at a side wall, so the middle seven tenths count, the centre most.
        weights = np.clip(1 - (deviation / (0.35 * width)) ** 2, 0, None)
        edge = along_mm[level] + step * (frame[level + 1 :].sum(axis=0) + 0.5)
        with np.errstate(invalid="ignore"):  # nowhere wide enough: not known
            heights.append((weights @ edge) / weights.sum())
            slopes.append((weights * deviation) @ edge / ((weights * deviation) @ deviation))
    return np.array(heights), np.array(slopes)
