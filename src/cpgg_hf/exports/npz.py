"""One cine and what is known of it as a NumPy archive, for those who want arrays and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from cpgg_hf.dataset import NUM_PHENOTYPES
from cpgg_hf.files.staging import staged_file


def write_npz(
    path: str | os.PathLike[str],
    cine: np.ndarray,
    frame_time_ms: float,
    spacing_mm: float = 1.8,
    *,
    phenotypes: np.ndarray | None = None,
    seed: int | None = None,
) -> Path:
    """Write `cine`, `phenotypes`, `spacing_mm`, `frame_time_ms` and `seed` as a compressed archive of `numpy.load`.

    Args:
        path: ends in `.npz`.
        cine: (T, H, W); the type is kept.
        frame_time_ms: time from one frame to the next.
        spacing_mm: pixel size.
        phenotypes: (82,) in the order of `cpgg_hf.phenotypes.NAMES`, NaN = missing; None = all missing.
        seed: what the cine was drawn from; -1 in the file where there is none.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"{path.name} must end in .npz.")
    values = np.full(NUM_PHENOTYPES, np.nan) if phenotypes is None else np.asarray(phenotypes, dtype=np.float64)
    with staged_file(path) as partial:
        np.savez_compressed(
            partial,
            cine=cine,
            phenotypes=values,
            spacing_mm=np.float64(spacing_mm),
            frame_time_ms=np.float64(frame_time_ms),
            seed=np.int64(-1 if seed is None else seed),
        )
    return path
