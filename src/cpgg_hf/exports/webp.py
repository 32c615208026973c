"""Cines as lossless WebP, alone or side by side, at the heart's own speed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cpgg_hf.cine import Cine
from cpgg_hf.exports.film import film_of, write_looping_picture

SUFFIX = ".webp"


def write_webp(
    path: str | os.PathLike[str], cines: Cine | Sequence[Cine], columns: int | None = None, scale: int = 2
) -> Path:
    """Write one cine, or a grid of cines, as a WebP that loops; the arguments are those of `film_of`.

    WebP counts time in ms; viewers show at most 50 frames per second, as of a GIF.
    """
    return write_looping_picture(path, "WEBP", *film_of(cines, columns, scale), clock_ms=1, lossless=True)
