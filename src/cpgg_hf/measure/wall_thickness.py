"""Wall thickness of the six AHA segments that a four-chamber plane cuts, along the normals of the endocardium."""

import numpy as np
import torch

from cpgg_hf.measure.heart_frame import HeartFrame, sample, to_image

# Thirds of the long axis, base to apex.
_THIRDS = np.array([[2 / 3, 1.0], [1 / 3, 2 / 3], [0.0, 1 / 3]])
_RAY_STEP_MM = 0.6


def wall_thickness(
    cavity: torch.Tensor,
    wall: torch.Tensor,
    heart: HeartFrame,
    apex_mm: float,
    base_mm: float,
    spacing_mm: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean thickness of basal, mid and apical segments in one frame.

    From points of the endocardium rays run along its normal; a ray's thickness is the integral of the wall's
    probability, which blur does not change. A parabola through the rays' thicknesses over the long axis gives each
    third's mean (near the apex and the annulus, where a normal means little, it is continued).

    Args:
        cavity: (H, W) probability of the LV cavity.
        wall: (H, W) probability of the LV myocardium.
        heart: the heart's axes.
        apex_mm: the LV cavity's lower end along the axis.
        base_mm: its upper end.
        spacing_mm: pixel size.

    Returns:
        Thickness of the septal and of the lateral wall: (3,) mm each, base to apex.
    """
    along = torch.linspace(apex_mm, base_mm, 61)[4:-2]
    level = ((along - apex_mm) / (base_mm - apex_mm)).numpy()
    across = torch.arange(-60.0, 60.0, 0.5 * spacing_mm)
    points = to_image(heart, across.expand(len(along), -1), along[:, None].expand(-1, len(across)))
    rows = sample(cavity[None, None], points, spacing_mm)[0, 0]
    middle = (rows @ across) / rows.sum(dim=1).clamp_min(1e-6)

    def one_wall(side: int) -> np.ndarray:
        # How far the cavity reaches from its middle line; the half pixel that the line cuts counts by its share.
        beyond = (side * (across - middle[:, None]) / (0.5 * spacing_mm) + 0.5).clamp(0, 1)
        border = middle + side * (rows * beyond).sum(dim=1) * 0.5 * spacing_mm
        basis = np.vander(np.sqrt(level), 7)
        smooth = basis @ np.linalg.lstsq(basis, border.numpy(), rcond=None)[0]
        slope = np.gradient(smooth, along.numpy())
        length = np.hypot(1, slope)
        distance = torch.arange(-5.0, 30.0, _RAY_STEP_MM)
        ray_across = torch.from_numpy(smooth)[:, None] + torch.from_numpy(side / length)[:, None] * distance
        ray_along = along[:, None] - torch.from_numpy(side * slope / length)[:, None] * distance
        ray_points = to_image(heart, ray_across.float(), ray_along.float())
        thickness = sample(wall[None, None], ray_points, spacing_mm)[0, 0].sum(dim=1).numpy() * _RAY_STEP_MM
        return _third_means(level, thickness)

    return one_wall(-1), one_wall(1)


def _third_means(level: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    used = (level > 0.1) & (level < 0.95)
    parabola = np.polynomial.Polynomial.fit(level[used], thickness[used], 2).integ()
    return np.array([(parabola(high) - parabola(low)) / (high - low) for low, high in _THIRDS])
