"""Image statistics per cine that reveal a patchwork of tokens: edges, jitter, and the jump across token faces.

The MAR decodes a cine token by token (16x16 pixels by 10 frames in the paper's configuration); where neighbours
disagree the image jumps at their common face. Compare with the spread of reference cines, not with 0.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from cpgg_hf.metrics.cines import Pixels, unit_pixels

if TYPE_CHECKING:
    import pandas as pd

STATISTICS = ("gradient_energy", "frame_jitter", "spatial_face_jump", "temporal_face_jump")


def gradient_energy(cine: np.ndarray) -> float:
    """Mean squared spatial gradient (forward differences) of a cine (T, H, W) in [0, 1], per pixel."""
    return float(np.mean(np.diff(cine, axis=1) ** 2) + np.mean(np.diff(cine, axis=2) ** 2))


def frame_jitter(cine: np.ndarray) -> float:
    """Mean |x[t-1] - 2 x[t] + x[t+1]| of a cine (T, H, W) in [0, 1]: steady motion cancels, shaking does not."""
    return float(np.mean(np.abs(np.diff(cine, n=2, axis=0))))


def face_jump(cine: np.ndarray, axes: tuple[int, ...], stride: int) -> float:
    """Mean |difference of neighbours| across token faces over that elsewhere, along all `axes` together.

    Args:
        cine: (T, H, W) in [0, 1].
        axes: (1, 2) for faces between rows and columns, (0,) for faces between frames.
        stride: faces lie between `stride - 1` and `stride`, `2 stride - 1` and `2 stride`, ...

    Returns:
        A ratio, about 1 without seams; infinite where only the faces jump, NaN where nothing changes along `axes`.

    Raises:
        ValueError: if an axis has no face, or nothing but faces.
    """
    face_sum = face_count = other_sum = other_count = 0.0
    for axis in axes:
        length = cine.shape[axis]
        if not 2 <= stride < length:
            raise ValueError(f"face stride {stride} along an axis of {length}; expected 2 to {length - 1}.")
        profile = np.abs(np.diff(cine, axis=axis)).mean(axis=tuple(a for a in range(3) if a != axis), dtype=np.float64)
        is_face = np.arange(1, length) % stride == 0
        weight = cine.size / length  # neighbours in one plane, so that axes of different extent weigh by their pixels
        face_sum += weight * profile[is_face].sum()
        face_count += weight * is_face.sum()
        other_sum += weight * profile[~is_face].sum()
        other_count += weight * (~is_face).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.float64(face_sum / face_count) / np.float64(other_sum / other_count))


def image_statistics(cines: Iterable[Pixels], spatial_stride: int = 16, temporal_stride: int = 10) -> "pd.DataFrame":
    """The four statistics of each cine.

    Args:
        cines: N `Cine` objects or arrays (T, H, W), uint8 or float in [0, 1].
        spatial_stride: pixels from one token face to the next.
        temporal_stride: frames from one token face to the next.

    Returns:
        N rows with the columns `STATISTICS`.
    """
    import pandas as pd

    rows = [
        (
            gradient_energy(cine),
            frame_jitter(cine),
            face_jump(cine, (1, 2), spatial_stride),
            face_jump(cine, (0,), temporal_stride),
        )
        for cine in unit_pixels(cines)
    ]
    return pd.DataFrame(rows, columns=list(STATISTICS))


def share_within_reference_range(reference: "pd.DataFrame", generated: "pd.DataFrame") -> "pd.DataFrame":
    """Share of generated cines between the 5th and 95th percentile of the reference cines, per statistic.

    Args:
        reference: from `image_statistics`.
        generated: from `image_statistics` with the same strides.

    Returns:
        One row per statistic (the index): `low`, `high` (reference percentiles), `share` within, `share_below`,
        `share_above`, `reference_median`, `generated_median`. A NaN lies neither within, below nor above.
    """
    import pandas as pd

    low, high = reference.quantile(0.05), reference.quantile(0.95)
    table = pd.DataFrame(
        {
            "low": low,
            "high": high,
            "share": ((generated >= low) & (generated <= high)).mean(),
            "share_below": (generated < low).mean(),
            "share_above": (generated > high).mean(),
            "reference_median": reference.median(),
            "generated_median": generated.median(),
        }
    )
    return table.loc[list(reference.columns)].rename_axis("statistic")
