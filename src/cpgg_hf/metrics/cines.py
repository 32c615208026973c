"""What every metric accepts as cines: arrays or iterables of (T, H, W), checked once, float in [0, 1]."""

from collections.abc import Iterable, Iterator

import numpy as np


def as_cine(cine: np.ndarray, index: int = 0) -> np.ndarray:
    """One cine (T, H, W), uint8 or float in [0, 1] -> float32 (T, H, W) in [0, 1].

    Raises:
        ValueError: for another number of axes, values that are not finite, or floats outside [0, 1]. `index` says
            which cine of a set it was.
    """
    cine = np.asarray(cine)
    if cine.ndim != 3:
        raise ValueError(f"cine {index} has shape {cine.shape}; expected (frames, height, width)")
    if cine.dtype == np.uint8:
        return cine.astype(np.float32) / 255.0
    cine = cine.astype(np.float32, copy=False)
    low, high = float(cine.min()), float(cine.max())
    # A float32 round trip through [-1, 1] may leave the range by an ulp or two.
    if not (low >= -1e-5 and high <= 1.0 + 1e-5):
        raise ValueError(f"cine {index} has values in [{low:g}, {high:g}]; expected uint8, or finite floats in [0, 1]")
    return cine


def iterate_batches(cines: Iterable[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    """Yield float32 batches (B, T, H, W) in [0, 1], B <= `batch_size`; all cines must have one shape."""
    batch: list[np.ndarray] = []
    shape = None
    for index, cine in enumerate(cines):
        cine = as_cine(cine, index)
        if shape is not None and cine.shape != shape:
            raise ValueError(f"cine {index} has shape {cine.shape}, the ones before it {shape}; resample to one grid")
        shape = cine.shape
        batch.append(cine)
        if len(batch) == batch_size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
