"""Cines as GIF, one or several side by side, at the speed of the heart."""

import os
from collections.abc import Sequence
from pathlib import Path

from cpgg_hf.cine import Cine
from cpgg_hf.exports.video import video_frames, write_looping_picture

SUFFIX = ".gif"


def write_gif(path: str | os.PathLike[str], cines: Cine | Sequence[Cine], columns: int | None = None) -> Path:
    """Write one cine, or a grid of cines, as a GIF that loops; the arguments are those of `video_frames`.

    GIF counts time in steps of 10 ms and viewers show at most 50 frames per second; of faster cines, frames are left
    out so that the beat keeps its length. Several cines beat together, at their mean rate.
    """
    return write_looping_picture(path, "GIF", *video_frames(cines, columns), clock_ms=10)
