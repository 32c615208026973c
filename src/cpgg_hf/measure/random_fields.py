"""Whole fields of view that no scanner made: hearts in random contrasts, poses and surroundings.

Domain randomisation (Tobin et al. 2017; SynthSeg, Billot et al. 2023): what the network must not rely on is drawn anew
for every sample, so that a real scan is one more draw. Nothing here was chosen on real images.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cpgg_hf.measure.heart_shapes import NUM_TIMES

FIELD_SIZE = 160
CONTEXT_TIMES = (-2, 0, 2)  # of ten a beat: the ventricles fill and empty between them
_BRIGHT_LEVEL = 0.9  # the 99th percentile, as `cpgg_hf.preparation` scales scans
_MUSCLE = 1  # index of the LV's myocardium among the structures


def random_fields(cine: Tensor, coverage: Tensor, is_phantom: Tensor, size: int = FIELD_SIZE) -> tuple[Tensor, Tensor]:
    """A field of view around each moving heart; randomness comes from torch's global generator.

    Args:
        cine: (N, 10, 96, 96) in [0, 1], the phantom's scan at ten times of the beat.
        coverage: (N, 10, 6, 96, 96) in [0, 1], the share of each pixel that each structure covers.
        is_phantom: (N,) bool, whether there is a scan.
        size: height and width of the field.

    Returns:
        (N, 3, size, size) frames in [0, 1], a random time between an earlier and a later one, and (N, 6, size, size)
        the coverage at that time.
    """
    count = len(cine)
    times = torch.randint(NUM_TIMES, (count, 1)) + torch.tensor(CONTEXT_TIMES)
    chosen = torch.arange(count)[:, None], times % NUM_TIMES
    scan, covered = cine[chosen], coverage[chosen]  # (N, 3, 96, 96), (N, 3, 6, 96, 96)
    maps = torch.cat([scan, torch.ones_like(scan[:, :1]), covered.flatten(1, 2)], dim=1)
    maps = F.grid_sample(maps, _random_grid(count, size, cine.shape[-1]), align_corners=False)
    scan, within, covered = maps[:, :3], maps[:, 3:4], maps[:, 4:].unflatten(1, (3, -1))

    surroundings = _surroundings(count, size)
    painted = _paint(covered, surroundings)
    scanned = _blend(scan, within, surroundings)
    shown = is_phantom & (torch.rand(count) < 0.4)
    frames = torch.where(shown[:, None, None, None], scanned, painted)
    return _acquire(frames), covered[:, 1]


def _uniform(count: int, low: float, high: float, channels: int = 1) -> Tensor:
    return torch.empty(count, channels, 1, 1).uniform_(low, high)


def _smooth_noise(count: int, channels: int, cells: int, size: int) -> Tensor:
    """(N, channels, size, size) of unit variance at the nodes of a coarse grid, smooth between them."""
    nodes = torch.randn(count, channels, cells, cells)
    return F.interpolate(nodes, size=(size, size), mode="bicubic", align_corners=True)


def _random_grid(count: int, size: int, heart_size: int) -> Tensor:
    """Where each pixel of the field looks into the heart's grid: any turn, either hand, moved, stretched, bent."""
    angle = torch.rand(count) * 2 * math.pi
    scale = torch.exp(torch.empty(count).uniform_(-0.3, 0.3)) * size / heart_size
    stretch = torch.exp(torch.empty(count).uniform_(-0.12, 0.12))
    hand = torch.where(torch.rand(count) < 0.5, 1.0, -1.0)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    shift = torch.empty(2, count).uniform_(-0.45, 0.45)  # of the field's half width
    zero = torch.zeros(count)
    turned = torch.stack([cosine, -sine, zero, sine, cosine, zero], dim=1).reshape(-1, 2, 3)
    stretched = turned * torch.stack([scale * stretch * hand, scale / stretch], dim=1)[:, :, None]
    stretched[:, :, 2] = -(stretched[:, :, :2] @ shift.T[:, :, None])[:, :, 0]
    grid = F.affine_grid(stretched, [count, 1, size, size], align_corners=False)
    bend = 0.05 * _uniform(count, 0, 1) * _smooth_noise(count, 2, 6, size)
    return grid + bend.permute(0, 2, 3, 1)


def _surroundings(count: int, size: int) -> Tensor:
    """(N, 1, size, size): regions of any brightness with texture, a body's outline, bright vessels."""
    regions = int(torch.randint(4, 9, ()))
    cells = int(torch.randint(4, 10, ()))
    shares = torch.softmax(_uniform(count, 4, 30) * _smooth_noise(count, regions, cells, size), dim=1)
    levels = torch.rand(count, regions, 1, 1) ** 1.5
    image = (shares * levels).sum(dim=1, keepdim=True)
    axis = torch.linspace(-1, 1, size)
    x, y = axis.view(1, 1, 1, -1), axis.view(1, 1, -1, 1)
    for _ in range(6):
        reach = _uniform(count, 0.02, 0.12)
        distance = torch.hypot(x - _uniform(count, -1, 1), (y - _uniform(count, -1, 1)) * _uniform(count, 0.5, 1))
        spot = torch.sigmoid((reach - distance) * 60) * (torch.rand(count, 1, 1, 1) < 0.5)
        image = image + spot * (_uniform(count, 0.3, 1) - image)
    # Outside the body there is air; under the skin lies fat.
    rim = 0.02 * _smooth_noise(count, 1, 8, size) + _uniform(count, 0.75, 1.6)
    distance = torch.hypot((x - _uniform(count, -0.2, 0.2)) * _uniform(count, 0.7, 1), y - _uniform(count, -0.2, 0.2))
    fat = torch.sigmoid((distance - rim + _uniform(count, 0.03, 0.15)) * 50)
    image = image + fat * (_uniform(count, 0.5, 1) - image)
    image = image * torch.sigmoid((rim - distance) * 50)
    return image * (1 + _uniform(count, 0, 0.12) * _smooth_noise(count, 1, 40, size))


def _paint(covered: Tensor, surroundings: Tensor) -> Tensor:
    """Tissues in random brightness, blood brightest: (N, 3, 6, H, W) and (N, 1, H, W) to (N, 3, H, W)."""
    count, _, structures, height, _ = covered.shape
    blood = _uniform(count, 0.45, 1.0) * _uniform(count, 0.8, 1.2, structures)
    muscle = blood[:, _MUSCLE : _MUSCLE + 1] * _uniform(count, 0.05, 0.65)
    levels = torch.cat([blood[:, :_MUSCLE], muscle, blood[:, _MUSCLE + 1 :]], dim=1)
    textured = levels * (1 + _uniform(count, 0, 0.12) * _smooth_noise(count, structures, 24, height))
    image = surroundings.expand(-1, 3, -1, -1)
    # Thin walls and fat around what has no thick wall of its own.
    heart = covered.sum(dim=2)
    walls = F.max_pool2d(heart, 3, stride=1, padding=1)
    around = F.max_pool2d(walls, 3, stride=1, padding=1)
    image = image + (around - heart).clamp_min(0) * (_uniform(count, 0, 1) - image) * _uniform(count, 0, 1)
    image = image + (walls - heart).clamp_min(0) * (muscle - image)
    image = image * (1 - heart) + (covered * textured[:, None]).sum(dim=2)
    # Valves and the wall between the atria: where two structures share pixels.
    shared = 2 * (heart**2 - covered.square().sum(dim=2)).clamp(0, 0.5)
    image = image + shared * _uniform(count, -0.5, 1).clamp_min(0) * (muscle - image)
    # Trabeculae, papillary muscles, turbulent blood: dark specks that move with nothing.
    specks = torch.sigmoid(6 * (_smooth_noise(count, 1, 34, height) - 1.6)) * _uniform(count, 0, 0.8)
    return image * (1 - specks * heart)


def _blend(scan: Tensor, within: Tensor, surroundings: Tensor) -> Tensor:
    """The phantom's scan, in another contrast, set softly into other surroundings."""
    count = len(scan)
    scan = scan.clamp(0, 1) ** torch.exp(_uniform(count, -0.5, 0.5)) * _uniform(count, 0.7, 1.1)
    inside = F.avg_pool2d(within, 9, stride=1, padding=4, count_include_pad=False)
    inside = ((inside - 0.5) * 2).clamp(0, 1)
    return surroundings * (1 - inside) + scan * inside


def _acquire(frames: Tensor) -> Tensor:
    """Coil shading, limited resolution, noise, contrast and the scaling of intensities: (N, 3, H, W) to [0, 1]."""
    count, _, size, _ = frames.shape
    frames = frames.clamp_min(0) * torch.exp(_uniform(count, 0, 0.35) * _smooth_noise(count, 1, 3, size))
    kept = _uniform(count, 0.5, 1.0)
    coarse = F.avg_pool2d(frames, 3, stride=1, padding=1, count_include_pad=False)
    coarse = F.avg_pool2d(coarse, 3, stride=1, padding=1, count_include_pad=False)
    frames = kept * frames + (1 - kept) * coarse
    frames = torch.hypot(frames + _uniform(count, 0, 0.06) * torch.randn_like(frames), 0.03 * torch.randn_like(frames))
    levels = torch.quantile(frames[:, :, ::3, ::3].flatten(1), torch.tensor([0.01, 0.99]), dim=1)  # (2, N)
    low, high = levels.view(2, -1, 1, 1, 1)
    frames = ((frames - low) / (high - low).clamp_min(1e-3) * _BRIGHT_LEVEL).clamp(0, 1)
    return frames ** torch.exp(_uniform(count, -0.3, 0.3))
