"""Small moving hearts for the metric tests: a bright pool in a dark wall, contracting."""

import numpy as np
import pytest


def moving_hearts(num_cines: int, num_frames: int, size: int, seed: int) -> np.ndarray:
    """(N, T, size, size) float32 in [0, 1]; pose, size, wall, contraction and contrast vary."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size].astype(np.float32) * (96 / size)
    phase = np.arange(num_frames, dtype=np.float32)[:, None, None] / num_frames
    cines = np.empty((num_cines, num_frames, size, size), np.float32)
    for cine in cines:
        centre, radius = 48 + rng.normal(0, 3, 2), rng.uniform(12, 22)
        wall, contraction = rng.uniform(3, 6), rng.uniform(0.15, 0.4)
        pool, muscle, background = rng.uniform(0.65, 0.9), rng.uniform(0.0, 0.15), rng.uniform(0.15, 0.3)
        scale = 1 - contraction * np.sin(np.pi * np.clip(phase / 0.7, 0, 1)) ** 2
        distance = np.hypot(columns - centre[1], 0.7 * (rows - centre[0])) - radius * scale
        inside = 1 / (1 + np.exp(distance / 0.7))
        within_wall = 1 / (1 + np.exp((distance - wall * (2 - scale)) / 0.7))
        shading = background * (1 + 0.3 * (columns - 48) / 96)
        cine[:] = shading * (1 - within_wall) + muscle * (within_wall - inside) + pool * inside
        cine += rng.normal(0, 0.01, cine.shape)
    return cines.clip(0, 1)


@pytest.fixture(scope="session")
def hearts() -> np.ndarray:
    """8 cines on the package's grid."""
    return moving_hearts(8, 50, 96, seed=0)


@pytest.fixture(scope="session")
def small_hearts() -> np.ndarray:
    """240 cines of 20x48x48, where the feature network takes a tenth of the time."""
    return moving_hearts(240, 20, 48, seed=0)
