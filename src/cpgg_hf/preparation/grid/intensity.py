"""The scale of intensities: the 1st percentile of all frames becomes 0, the 99th `grid.BRIGHT_LEVEL`."""

import numpy as np

from cpgg_hf.grid import BRIGHT_LEVEL

_PERCENTILES = (1.0, 99.0)


def normalise(frames: np.ndarray) -> np.ndarray:
    """Scale intensities of any range to float32 in [0, 1] by percentiles of all frames, which ignore single pixels.

    Frames without contrast become black.
    """
    low, high = np.percentile(frames, _PERCENTILES)
    if high <= low:
        low, high = float(frames.min()), float(frames.max())
    if high <= low:
        return np.zeros(frames.shape, dtype=np.float32)
    return ((frames - low) / (high - low) * BRIGHT_LEVEL).clip(0, 1).astype(np.float32)
