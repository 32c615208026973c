"""Labels on the pictures of a validation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

STRIP = 12  # height of a label in pixels


def labelled(frames: np.ndarray, label: str) -> np.ndarray:
    """Frames (T, H, W) in [0, 1] below a black strip with a label: (T, H + `STRIP`, W) uint8."""
    num_frames, _, width = frames.shape
    strip = Image.new("L", (width, STRIP))
    ImageDraw.Draw(strip).text((1, 0), label, fill=255)
    strips = np.broadcast_to(np.asarray(strip), (num_frames, STRIP, width))
    return np.concatenate([strips, np.round(255 * frames).astype(np.uint8)], axis=1)


def save_reconstruction_sheet(pairs: Sequence[tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """A PNG with three labelled rows per cine (cine, reconstruction, 4 x absolute error), every tenth frame across.

    Args:
        pairs: (cine, reconstruction), each (T, H, W) in [0, 1].
        path: the PNG to write.
    """
    rows = []
    for index, (cine, reconstruction) in enumerate(pairs, start=1):
        error = (4 * np.abs(reconstruction - cine)).clip(max=1)
        frames = ", ".join(map(str, range(len(cine))[:50:10]))
        named = {f"cine {index}, frames {frames}": cine, "reconstruction": reconstruction, "4 x absolute error": error}
        for name, part in named.items():
            rows.append(labelled(np.concatenate(part[:50:10], axis=1)[None], name)[0])
    Image.fromarray(np.concatenate(rows)).save(path)
