"""Pictures of a validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

_FRAMES = (0, 10, 20, 30, 40)
_ERROR_GAIN = 4.0


def save_reconstruction_sheet(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], path: Path) -> None:
    """A PNG with three rows per cine (reference, reconstruction, 4 x absolute error) and five frames across.

    Args:
        pairs: (cine, reconstruction), each (T, H, W) in [0, 1].
        path: the PNG to write.
    """
    from PIL import Image

    rows = []
    for cine, reconstruction in pairs:
        frames = [frame for frame in _FRAMES if frame < len(cine)]
        error = ((reconstruction - cine).abs() * _ERROR_GAIN).clamp(max=1.0)
        rows += [torch.cat(list(part[frames]), dim=1) for part in (cine, reconstruction, error)]
    pixels = (torch.cat(rows, dim=0) * 255).round().to(torch.uint8).cpu()
    Image.fromarray(np.asarray(pixels)).save(path)
