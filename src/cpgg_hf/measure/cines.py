"""Phenotypes of cines: the segmenter, then the formulas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from tqdm.auto import tqdm

from cpgg_hf.measure.formulas import CineMeasurement, measure_labels
from cpgg_hf.segmentation.segmenter import CineSegmenter

Cine = np.ndarray | torch.Tensor


def measure_cine(cine: Cine, spacing_mm: float, frame_time_ms: float, segmenter: CineSegmenter) -> CineMeasurement:
    """Measures one cine.

    Args:
        cine: (T, H, W), one heartbeat from end diastole, uint8 or float in [0, 1]; the shipped segmenter knows
            (50, 96, 96).
        spacing_mm: Pixel size; the shipped segmenter was trained at 1.8.
        frame_time_ms: RR / T.
        segmenter: `CineSegmenter.from_pretrained(folder)`.

    Returns:
        The phenotypes (82,), NaN where a four-chamber view does not show them or the structure was not found; beside
        them the end-systolic frame and the curves over the cycle.

    Raises:
        ValueError: If the cine is not (T, H, W), its values are not in [0, 1], or a size does not suit.
    """
    frames = _unit_range(cine, 2 ** len(segmenter.config.block_out_channels))
    if not (spacing_mm > 0 and frame_time_ms > 0):
        raise ValueError(f"spacing_mm and frame_time_ms must be positive, given {spacing_mm} and {frame_time_ms}")
    return measure_labels(segmenter.segment(frames).cpu(), float(spacing_mm), float(frame_time_ms))


def measure_cines(
    cines: Iterable[Cine],
    spacing_mm: float | Sequence[float] | np.ndarray,
    frame_time_ms: float | Sequence[float] | np.ndarray,
    segmenter: CineSegmenter,
    progress: bool = False,
) -> np.ndarray:
    """Measures many cines, one after another.

    Args:
        cines: (B, T, H, W), or any iterable of cines as `measure_cine` takes them.
        spacing_mm: One pixel size, or one a cine.
        frame_time_ms: One frame time, or one a cine.
        segmenter: `CineSegmenter.from_pretrained(folder)`.
        progress: Whether to show a progress bar.

    Returns:
        (B, 82) float64 in physical units, NaN where not measurable.

    Raises:
        ValueError: As `measure_cine`; or if spacings or frame times are not one a cine.
    """
    cines = cines if isinstance(cines, (np.ndarray, torch.Tensor)) else list(cines)
    spacings, frame_times = (
        _one_per_cine(values, len(cines), name)
        for values, name in ((spacing_mm, "spacing_mm"), (frame_time_ms, "frame_time_ms"))
    )
    rows = [
        measure_cine(cine, spacing, frame_time, segmenter).phenotypes
        for cine, spacing, frame_time in zip(
            tqdm(cines, desc="measuring", unit="cine", disable=not progress), spacings, frame_times, strict=True
        )
    ]
    return np.stack(rows) if rows else np.empty((0, 82))


def _one_per_cine(values: float | Sequence[float] | np.ndarray, count: int, name: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape not in ((), (count,)):
        raise ValueError(f"{name} must be one number or one for each of the {count} cines, got shape {array.shape}")
    return np.broadcast_to(array, (count,))


def _unit_range(cine: Cine, multiple: int) -> torch.Tensor:
    """(T, H, W) float32 in [0, 1]."""
    frames = torch.as_tensor(cine if isinstance(cine, torch.Tensor) else np.array(cine))  # a copy may be written to
    if frames.ndim != 3 or frames.shape[1] % multiple or frames.shape[2] % multiple:
        raise ValueError(
            f"a cine to measure is (T, H, W) with H and W multiples of {multiple}, such as (50, 96, 96); "
            f"got {tuple(frames.shape)}"
        )
    if frames.dtype == torch.uint8:
        return frames.float() / 255
    frames = frames.float()
    low, high = frames.min().item(), frames.max().item()
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(
            f"a cine to measure is uint8 or in [0, 1], got {low:.3g} to {high:.3g}; "
            "for a network's [-1, 1] take (cine + 1) / 2"
        )
    return frames.clamp(0, 1)
