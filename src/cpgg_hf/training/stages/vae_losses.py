"""The loss of the 3D-VAE (paper, section 2.2): one function per term, and the weights of the terms.

L1 has weight 1. To add a term, write a function, enter it in `reconstruction_terms` and add its argument
`<name>_weight` to `VAELossArguments`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from cpgg_hf.training.arguments import TrainingArguments, argument


@dataclass(kw_only=True)
class VAELossArguments(TrainingArguments):
    """Weights of the loss terms other than L1."""

    kl_weight: float = argument(1e-6, "Weight of the KL per latent element (L1: per pixel).", minimum=0, maximum=1e6)
    motion_weight: float = argument(
        0.0, "Weight of the L1 of the error's change between frames.", minimum=0, maximum=1e6
    )
    detail_weight: float = argument(
        0.0, "Weight of the L1 between local edge and motion strengths.", minimum=0, maximum=1e6
    )
    beat_weight: float = argument(
        0.0, "Emphasis of L1 and motion on pixels that change over the beat.", minimum=0, maximum=1e6
    )
    perceptual_weight: float = argument(
        0.0, "Weight of the perceptual_network term (paper: 0.1).", minimum=0, maximum=1e6
    )
    adversarial_weight: float = argument(0.0, "Weight of the adversarial term (paper: 0.05).", minimum=0, maximum=1e6)


def motion(error: torch.Tensor) -> torch.Tensor:
    """L1 of the change of the error between frames: a stem that decodes several frames at once leaves no jumps."""
    return error.diff(dim=2).abs().mean()


def detail(sample: torch.Tensor, cines: torch.Tensor) -> torch.Tensor:
    """L1 between the local strengths of edges and of motion: L1 by itself blurs or stills uncertain parts."""
    pairs = zip(local_strengths(sample), local_strengths(cines), strict=True)
    return torch.stack([F.l1_loss(*pair) for pair in pairs]).sum()


def reconstruction_terms(
    sample: torch.Tensor,
    cines: torch.Tensor,
    arguments: VAELossArguments,
    perceptual_distance: Any = None,
) -> dict[str, torch.Tensor]:
    """L1, the terms with a weight and `loss`, their weighted sum; the stage adds the adversarial term and KL.

    Args:
        sample: the reconstruction (B, C, T, H, W), float32 or float64.
        cines: the reference (B, C, T, H, W) in [-1, 1].
        arguments: the weights.
        perceptual_distance: distance in the features of a frozen network (`perceptual.py`), if that term
            has a weight.
    """
    error = sample - cines
    if arguments.beat_weight > 0:
        error = error * beat_weights(cines, arguments.beat_weight)
    possible: dict[str, Callable[[], torch.Tensor]] = {
        "motion": lambda: motion(error),
        "detail": lambda: detail(sample, cines),
        "perceptual": lambda: perceptual_distance(sample, cines),
    }
    terms = dict.fromkeys(("loss", "l1"), error.abs().mean())
    for name, term in possible.items():
        weight = getattr(arguments, f"{name}_weight")
        if weight > 0:
            terms[name] = term()
            terms["loss"] = terms["loss"] + weight * terms[name]
    return terms


def local_strengths(cines: torch.Tensor, window: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Root mean square of the spatial gradient and of the change to the next frame, in square windows of each frame.

    For cines (B, C, T, H, W): (B, C, T, h, w) and (B, C, T - 1, h, w) with h = ceil(H / window), w = ceil(W / window).
    """
    gradient = F.pad(cines.diff(dim=3), (0, 0, 0, 1)).square() + F.pad(cines.diff(dim=4), (0, 1)).square()
    # The derivative of a root is infinite at 0.
    edges, motion = (
        (F.avg_pool3d(square, (1, window, window), ceil_mode=True) + 1e-6).sqrt()
        for square in (gradient, cines.diff(dim=2).square())
    )
    return edges, motion


def beat_weights(cines: torch.Tensor, strength: float, window: int = 5) -> torch.Tensor:
    """Weights of pixels, 1 on average in each cine: (1 + strength s) / (1 + strength).

    s is the standard deviation of a pixel over the frames, averaged over a window around it (a wall moves only at its
    edges) and divided by its mean over the image.

    Args:
        cines: (B, C, T, H, W); the weights are (B, C, 1, H, W).
        strength: at 0 all weights are 1; for large values the weight of a pixel that never changes approaches 0.
        window: height and width of the averaging window in pixels, odd.
    """
    change = F.avg_pool2d(cines.std(dim=2), window, stride=1, padding=window // 2, count_include_pad=False)
    change = change + 1e-6  # all weights are 1 where nothing changes
    relative = (change / change.mean((-2, -1), keepdim=True)).unsqueeze(2)
    return (1.0 + strength * relative) / (1.0 + strength)
