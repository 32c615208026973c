"""Augmentation for the cine segmenter: blur and texture of generated cines, other contrasts, moved hearts."""

import math

import torch

_BLUR_TAPS = 7


def augment(frames: torch.Tensor, coverage: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Randomly change a batch; randomness comes from torch's global generator.

    Half of the samples are moved (turned by up to 12 degrees, scaled by up to 10%, shifted by up to 6 pixels), half
    are blurred (sd up to 1.1 pixels); all change in contrast, brightness and gamma, and get white and coarse noise.

    Args:
        frames: (N, C, H, W) in [0, 1].
        coverage: (N, labels, H, W) in [0, 1], moved with the frames.

    Returns:
        The changed frames, in [0, 1], and coverage.
    """
    count = len(frames)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.empty(count, 1, 1, 1, device=frames.device).uniform_(low, high)

    moved = torch.rand(count) < 0.5
    if moved.any():
        grid = _random_grid(frames[moved])
        frames, coverage = frames.clone(), coverage.clone()
        frames[moved] = torch.nn.functional.grid_sample(
            frames[moved], grid, padding_mode="border", align_corners=False
        )
        coverage[moved] = torch.nn.functional.grid_sample(coverage[moved], grid, align_corners=False)

    sigma = uniform(-1.1, 1.1).clamp_min(0.05).flatten()
    frames = _blur(frames, sigma)
    frames = frames.clamp(0, 1) ** torch.exp(uniform(-0.25, 0.25))
    frames = 0.5 + uniform(0.8, 1.2) * (frames - 0.5) + uniform(-0.08, 0.08)
    noise = uniform(0.0, 0.025) * torch.randn_like(frames)
    coarse = torch.randn(*frames.shape[:2], frames.shape[2] // 4, frames.shape[3] // 4, device=frames.device)
    coarse = torch.nn.functional.interpolate(coarse, scale_factor=4.0, mode="bilinear")
    return (frames + noise + uniform(0.0, 0.025) * coarse).clamp(0, 1), coverage


def _random_grid(frames: torch.Tensor) -> torch.Tensor:
    """A sampling grid (N, H, W, 2) of a random similarity for each sample."""
    count, width = len(frames), frames.shape[-1]
    angle, scale, right, down = (torch.rand(4, count, device=frames.device) * 2 - 1).unbind()
    angle = math.radians(12) * angle
    scale = torch.exp(0.1 * scale)
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    shift = 6 * 2 / width
    rows = torch.stack([cosine, -sine, shift * right, sine, cosine, shift * down], dim=1)
    return torch.nn.functional.affine_grid(rows.reshape(-1, 2, 3), list(frames.shape), align_corners=False)


def _blur(frames: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian blur of each sample by its own sd in pixels (N,)."""
    count, channels, height, width = frames.shape
    taps = torch.arange(_BLUR_TAPS, device=frames.device) - _BLUR_TAPS // 2
    kernel = torch.exp(-0.5 * (taps / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    stacked = frames.reshape(1, count * channels, height, width)
    padded = torch.nn.functional.pad(stacked, [_BLUR_TAPS // 2] * 4, mode="replicate")
    blurred = torch.nn.functional.conv2d(padded, kernel[:, None, None, :], groups=count * channels)
    blurred = torch.nn.functional.conv2d(blurred, kernel[:, None, :, None], groups=count * channels)
    return blurred.reshape(frames.shape)
