"""A cine and what is known about it as a NumPy archive."""

import os
from pathlib import Path

import numpy as np

from cpgg_hf.cine import NUM_PHENOTYPES, Cine
from cpgg_hf.exports.checks import checked
from cpgg_hf.files.staging import staged_file

SUFFIX = ".npz"


def write_npz(path: str | os.PathLike[str], cine: Cine) -> Path:
    """Write `cine`, `phenotypes`, `spacing_mm`, `frame_time_ms` and `seed` as a compressed archive for `numpy.load`.

    Args:
        path: ends in `.npz`.
        cine: with square pixels, stored as (T, H, W) with their type. Phenotypes are in the order of
            `cpgg_hf.phenotypes.NAMES`, NaN = unknown; an unknown seed is -1.

    Raises:
        ValueError: another ending, pixels that are not square, or what `checked` refuses.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"{path.name} must end in {SUFFIX}.")
    cine = checked(cine)
    with staged_file(path) as partial:
        np.savez_compressed(
            partial,
            cine=cine.pixels,
            phenotypes=np.full(NUM_PHENOTYPES, np.nan) if cine.phenotypes is None else cine.phenotypes,
            spacing_mm=np.float64(cine.pixel_size_mm),
            frame_time_ms=np.float64(cine.frame_time_ms),
            seed=np.int64(-1 if cine.seed is None else cine.seed),
        )
    return path
