"""The pixels that metrics compare: of a `Cine`, or of an array (T, H, W), uint8 or float in [0, 1]."""

from collections.abc import Iterable, Iterator

import numpy as np

from cpgg_hf.cine import Cine

Pixels = Cine | np.ndarray


def unit_pixels(cines: Iterable[Pixels]) -> Iterator[np.ndarray]:
    """Each cine as float32 (T, H, W) in [0, 1]; ValueError with the index of one that is not a cine."""
    for index, cine in enumerate(cines):
        try:
            yield (cine if isinstance(cine, Cine) else Cine(pixels=cine, frame_time_ms=1.0)).unit
        except ValueError as error:
            raise ValueError(f"cine {index}: {error}") from None


def iterate_batches(cines: Iterable[Pixels], batch_size: int) -> Iterator[np.ndarray]:
    """Batches (B, T, H, W) float32 in [0, 1], B <= `batch_size`; ValueError if shapes or values do not fit."""
    batch: list[np.ndarray] = []
    shape = None
    for index, cine in enumerate(unit_pixels(cines)):
        if shape is not None and cine.shape != shape:
            raise ValueError(f"cine {index} has shape {cine.shape}, earlier ones {shape}; resample them to one grid.")
        shape = cine.shape
        batch.append(cine)
        if len(batch) == batch_size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
