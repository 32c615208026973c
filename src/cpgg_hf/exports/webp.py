"""A cine as lossless WebP, at the speed of the heart."""

import os
from pathlib import Path

from cpgg_hf.cine import Cine
from cpgg_hf.exports.video import video_frames, write_looping_picture

SUFFIX = ".webp"


def write_webp(path: str | os.PathLike[str], cine: Cine) -> Path:
    """Write a cine as a WebP that loops.

    WebP counts time in ms; as of a GIF, viewers show at most 50 frames per second.
    """
    return write_looping_picture(path, "WEBP", *video_frames(cine), clock_ms=1, lossless=True)
