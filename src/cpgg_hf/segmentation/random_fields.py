"""Synthetic fields of view for the scan segmenter: hearts in random contrasts, poses and surroundings.

Domain randomisation (Tobin et al. 2017; SynthSeg, Billot et al. 2023): everything irrelevant is drawn anew for every
sample, so that a real scan looks like one more sample.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cpgg_hf.grid import BRIGHT_LEVEL
from cpgg_hf.segmentation.heart_shapes import NUM_TIMES, STRUCTURES
from cpgg_hf.segmentation.random_surroundings import organs, smooth_noise, some, surroundings, tubes, uniform

FIELD_SIZE = 160
CONTEXT_TIMES = (-2, 0, 2)  # of ten per beat: the ventricles fill and empty between them
_RIGHT = STRUCTURES.index("RV cavity")
_MUSCLE = STRUCTURES.index("LV myocardium")
_FED_BY_VESSELS = (STRUCTURES.index("LA"), STRUCTURES.index("RA"))
_EMPTY_SHARE = 0.05  # fields with no heart in them
_NARROW_SHARE = 0.35  # fields of view that show little but the heart


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
    times = torch.randint(NUM_TIMES, (len(cine), 1)) + torch.tensor(CONTEXT_TIMES)
    frames, covered = _fields(cine, coverage, is_phantom, times % NUM_TIMES, size)
    return frames, covered[:, CONTEXT_TIMES.index(0)]


def random_beats(cine: Tensor, coverage: Tensor, is_phantom: Tensor, size: int = FIELD_SIZE) -> tuple[Tensor, Tensor]:
    """As `random_fields`, but the complete beat: frames (N, 10, size, size), coverage (N, 10, 6, size, size)."""
    return _fields(cine, coverage, is_phantom, torch.arange(NUM_TIMES).expand(len(cine), -1), size)


def _fields(cine: Tensor, coverage: Tensor, is_phantom: Tensor, times: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Frames (N, F, size, size) and coverage (N, F, 6, size, size) at these times (N, F) of the beat."""
    count, num_frames = times.shape
    chosen = torch.arange(count)[:, None], times
    scan, covered = cine[chosen], coverage[chosen]  # (N, F, 96, 96), (N, F, 6, 96, 96)
    maps = torch.cat([scan, torch.ones_like(scan[:, :1]), covered.flatten(1, 2)], dim=1)
    maps = F.grid_sample(maps, _random_grid(count, size, cine.shape[-1]), align_corners=False)
    scan, within, covered = maps.split([num_frames, 1, maps.shape[1] - num_frames - 1], dim=1)
    covered = covered.unflatten(1, (num_frames, -1))

    empty = torch.rand(count) < _EMPTY_SHARE
    covered = covered * ~empty[:, None, None, None, None]
    around = surroundings(count, size)
    painted = _paint(covered, around)
    scanned = _blend(scan, within, around)
    shown = is_phantom & ~empty & (torch.rand(count) < 0.4)
    seen = _field_of_view(covered)
    return _acquire(torch.where(shown[:, None, None, None], scanned, painted), seen), covered * seen[:, :, None]


def _random_grid(count: int, size: int, heart_size: int) -> Tensor:
    """Sampling grid (N, size, size, 2): random rotation, mirroring, shift, scale, shear and bending."""
    angle = torch.rand(count) * 2 * math.pi
    scale = torch.exp(torch.empty(count).uniform_(-0.3, 0.3)) * size / heart_size
    # Oblique to the heart's own axes, so that it shears: valve planes tilt.
    stretch = torch.exp(torch.empty(count).uniform_(-0.2, 0.2))
    hand = torch.where(torch.rand(count) < 0.5, 1.0, -1.0)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    shift = torch.empty(2, count).uniform_(-0.45, 0.45)  # of the field's half width
    zero = torch.zeros(count)
    turned = torch.stack([cosine, -sine, zero, sine, cosine, zero], dim=1).reshape(-1, 2, 3)
    stretched = turned * torch.stack([scale * stretch * hand, scale / stretch], dim=1)[:, :, None]
    stretched[:, :, 2] = -(stretched[:, :, :2] @ shift.T[:, :, None])[:, :, 0]
    grid = F.affine_grid(stretched, [count, 1, size, size], align_corners=False)
    for cells, reach in ((6, 0.07), (14, 0.02)):
        bend = reach * uniform(count, 0, 1) * smooth_noise(count, 2, cells, size)
        grid = grid + bend.permute(0, 2, 3, 1)
    return grid


def _paint(covered: Tensor, around: Tensor) -> Tensor:
    """Tissues in random brightness, blood brightest: (N, F, 6, H, W) and (N, 1, H, W) to (N, F, H, W)."""
    count, num_frames, structures, size, _ = covered.shape
    # Blood is as bright on both sides of a valve in some fields: the valve's place then follows only from the walls.
    apart = uniform(count, 0, 1) * some(count, 0.6)
    blood = uniform(count, 0.45, 1.0) * (1 + apart * uniform(count, -0.35, 0.35, structures))
    muscle = blood[:, _MUSCLE : _MUSCLE + 1] * uniform(count, 0.05, 0.65)
    levels = torch.cat([blood[:, :_MUSCLE], muscle, blood[:, _MUSCLE + 1 :]], dim=1)
    textured = levels * (1 + uniform(count, 0, 0.12) * smooth_noise(count, structures, 24, size))
    heart = covered.sum(dim=2)
    # An organ lies against the heart, of any brightness, or hardly distinguishable from the blood beside it.
    organ = organs(_centroid(heart[:, num_frames // 2]), size)
    like_blood = some(count, 0.5)
    level = torch.lerp(uniform(count, 0, 1), blood[:, _RIGHT : _RIGHT + 1] * uniform(count, 0.5, 1), like_blood)
    texture = 1 + uniform(count, 0, 0.15) * smooth_noise(count, 1, 30, size)
    around = torch.lerp(around, level * texture, organ)
    image = around.expand(-1, num_frames, -1, -1)
    # Thin walls around what has no thick wall of its own, and fat of any depth around them.
    walls = F.max_pool2d(heart, 3, stride=1, padding=1)
    fat = F.max_pool2d(walls, 3, stride=1, padding=1)
    for _ in range(3):
        patches = torch.sigmoid(6 * (smooth_noise(count, 1, 7, size) + uniform(count, -1.5, 1)))
        fat = torch.lerp(fat, F.max_pool2d(fat, 3, stride=1, padding=1), patches)
    image = image + (fat - heart).clamp_min(0) * (uniform(count, 0, 1) - image) * uniform(count, 0, 1)
    image = image + (walls - heart).clamp_min(0) * (muscle - image) * uniform(count, 0, 1)
    # Veins and great vessels run into the chambers; no wall closes them.
    for chamber in _FED_BY_VESSELS:
        seen = covered[:, num_frames // 2, chamber]
        present = (seen.flatten(1).amax(dim=1) > 0.5).view(-1, 1, 1, 1)
        for _ in range(2):
            vessel = tubes(_centroid(seen), size) * present
            image = image + vessel * (blood[:, chamber : chamber + 1] - image)
    # Blood flows, unevenly and at no two times alike.
    flow = 1 + uniform(count, 0, 0.3) * smooth_noise(count, num_frames, 9, size)
    image = image * (1 - heart) + (covered * textured[:, None]).sum(dim=2) * flow.clamp_min(0.3)
    # Valves and the wall between the atria: where two structures share pixels.
    shared = 2 * (heart**2 - covered.square().sum(dim=2)).clamp(0, 0.5)
    image = image + shared * uniform(count, -0.5, 1).clamp_min(0) * (muscle - image)
    # Trabeculae, papillary muscles, turbulent blood: dark specks of two sizes that move with nothing.
    for cells, rarity in ((34, 1.6), (16, 1.9)):
        specks = torch.sigmoid(6 * (smooth_noise(count, 1, cells, size) - rarity)) * uniform(count, 0, 0.8)
        image = image * (1 - specks * heart)
    return image


def _centroid(coverage: Tensor) -> Tensor:
    """(N, 2) x and y in [-1, 1] of the middle of maps (N, H, W); (0, 0) where they are empty."""
    axis = torch.linspace(-1, 1, coverage.shape[-1])
    total = coverage.sum(dim=(1, 2)).clamp_min(1e-6)
    return torch.stack([coverage.sum(dim=1) @ axis, coverage.sum(dim=2) @ axis], dim=1) / total[:, None]


def _field_of_view(covered: Tensor) -> Tensor:
    """(N, 1, H, W) of ones inside the acquired field of view: everywhere, or in a narrow window around the heart."""
    count, num_frames, _, size, _ = covered.shape
    middle = _centroid(covered[:, num_frames // 2].sum(dim=1)).view(count, 2, 1, 1)
    axis = torch.linspace(-1, 1, size)
    beyond = [
        (axis.view(shape) - middle[:, i : i + 1] - uniform(count, -0.15, 0.15)).abs() > uniform(count, 0.55, 1)
        for i, shape in enumerate(((1, 1, 1, -1), (1, 1, -1, 1)))
    ]
    return 1 - (beyond[0] | beyond[1]).float() * some(count, _NARROW_SHARE)


def _blend(scan: Tensor, within: Tensor, around: Tensor) -> Tensor:
    """The phantom's scan, in another contrast, set softly into other surroundings."""
    count = len(scan)
    scan = scan.clamp(0, 1) ** torch.exp(uniform(count, -0.5, 0.5)) * uniform(count, 0.7, 1.1)
    inside = F.avg_pool2d(within, 9, stride=1, padding=4, count_include_pad=False)
    inside = ((inside - 0.5) * 2).clamp(0, 1)
    return around * (1 - inside) + scan * inside


def _acquire(frames: Tensor, seen: Tensor) -> Tensor:
    """Coil shading, limited resolution, noise, contrast and the scaling of intensities: (N, F, H, W) to [0, 1].

    What lies outside the field of view is black and has no part in the scaling.
    """
    count, _, size, _ = frames.shape
    frames = frames.clamp_min(0) * torch.exp(uniform(count, 0, 0.5) * smooth_noise(count, 1, 3, size))
    kept = uniform(count, 0.5, 1.0)
    coarse = F.avg_pool2d(frames, 3, stride=1, padding=1, count_include_pad=False)
    coarse = F.avg_pool2d(coarse, 3, stride=1, padding=1, count_include_pad=False)
    frames = kept * frames + (1 - kept) * coarse
    frames = torch.hypot(frames + uniform(count, 0, 0.06) * torch.randn_like(frames), 0.03 * torch.randn_like(frames))
    inside = frames.where(seen > 0, torch.nan)[:, :, ::3, ::3].flatten(1)
    levels = torch.nanquantile(inside, torch.tensor([0.01, 0.99]), dim=1)  # (2, N)
    low, high = levels.view(2, -1, 1, 1, 1)
    frames = ((frames - low) / (high - low).clamp_min(1e-3) * BRIGHT_LEVEL).clamp(0, 1)
    return seen * frames ** torch.exp(uniform(count, -0.3, 0.3))
