"""Labels on the pictures of a validation."""

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
