"""The perceptual term of the 3D-VAE: cines compared frame by frame in the features of a trained network.

`lpips` is the published one: LPIPS on VGG16, with the weights of torchvision and torchmetrics. A `CineSegmenter` has
features of cardiac structures, and nothing needs to be downloaded.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from cpgg_hf.errors import TrainingError, brief
from cpgg_hf.segmentation.segmenter import CineSegmenter
from cpgg_hf.training.stage import at_least_float32
from cpgg_hf.training.trained_models import load_trained


def load_perceptual_distance(source: str) -> nn.Module:
    """A frozen module (cines, cines) -> their mean distance, for grey cines (B, 1, T, H, W) in [-1, 1].

    Args:
        source: "lpips", or the folder or repository of a `CineSegmenter`.

    Raises:
        CheckpointError, TrainingError: it cannot be loaded.
    """
    distance = _lpips() if source == "lpips" else SegmenterDistance(load_trained(CineSegmenter, source))
    return distance.requires_grad_(False).eval()


class SegmenterDistance(nn.Module):
    """Squared distance between a segmenter's features, normalised at each position, summed over its levels.

    H and W of the cines must be multiples of 2 ** levels.
    """

    def __init__(self, segmenter: CineSegmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, given: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        """Mean over frames and positions; 0 for equal cines."""
        pairs = zip(self._features(given), self._features(expected), strict=True)
        distances = [(one - other).square().sum(1).mean() for one, other in pairs]
        return torch.stack(distances).sum()

    def _features(self, cines: torch.Tensor) -> list[torch.Tensor]:
        offsets = self.segmenter.config.context_frames
        context = torch.stack([cines[:, 0].roll(-offset, dims=1) for offset in offsets], dim=2)  # (B, T, n, H, W)
        levels = self.segmenter.features(context.flatten(0, 1).to(self.segmenter.dtype))
        return [F.normalize(at_least_float32(level), dim=1) for level in levels]


class LPIPSDistance(nn.Module):
    """LPIPS, frame by frame, by a network: (N, 3, H, W) in [-1, 1] twice -> N distances."""

    def __init__(self, network: Callable[..., Any]) -> None:
        super().__init__()
        self.network = network

    def forward(self, given: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        """Mean over frames; the grey value is used for all three colours."""
        frames = [cines.transpose(1, 2).flatten(0, 1).float().expand(-1, 3, -1, -1) for cines in (given, expected)]
        return self.network(*frames).mean()


def _lpips() -> LPIPSDistance:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    try:
        return LPIPSDistance(LearnedPerceptualImagePatchSimilarity(net_type="vgg").net)
    except ModuleNotFoundError:
        raise TrainingError(
            "lpips needs torchvision, which is not installed; install the build for this version of torch, "
            "or pass the folder of a segmenter as perceptual_network."
        ) from None
    except OSError as error:
        raise TrainingError(
            f"lpips needs the weights of VGG16, which cannot be downloaded ({brief(error)}); put torchvision's "
            "vgg16-397923af.pth into hub/checkpoints of torch's cache, or pass the folder of a segmenter."
        ) from None
