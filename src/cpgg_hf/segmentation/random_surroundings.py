"""Random surroundings of a heart in a synthetic field of view: regions of any brightness, lungs, vessels, a body.

Shapes, places and brightnesses are random, and none was chosen on real images.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_VESSELS = 6


def uniform(count: int, low: float, high: float, channels: int = 1) -> Tensor:
    """(count, channels, 1, 1) uniform random numbers."""
    return torch.empty(count, channels, 1, 1).uniform_(low, high)


def some(count: int, share: float) -> Tensor:
    """(count, 1, 1, 1), each one with probability `share`, else zero."""
    return (torch.rand(count, 1, 1, 1) < share).float()


def smooth_noise(count: int, channels: int, cells: int, size: int) -> Tensor:
    """(count, channels, size, size) of unit variance at the nodes of a coarse grid, smooth between them."""
    nodes = torch.randn(count, channels, cells, cells)
    return F.interpolate(nodes, size=(size, size), mode="bicubic", align_corners=True)


def surroundings(count: int, size: int) -> Tensor:
    """(count, 1, size, size): regions of any brightness with texture, lungs, vessels, a body's outline."""
    image = _regions(count, size)
    lungs = torch.sigmoid(
        (smooth_noise(count, 1, int(torch.randint(3, 6, ())), size) + uniform(count, -0.6, 0.6)) * 12
    )
    image = image + lungs * some(count, 0.6) * (uniform(count, 0, 0.15) - image)
    axis = torch.linspace(-1, 1, size)
    x, y = axis.view(1, 1, 1, -1), axis.view(1, 1, -1, 1)
    for _ in range(_VESSELS):
        reach = uniform(count, 0.015, 0.12)
        distance = torch.hypot(x - uniform(count, -1, 1), (y - uniform(count, -1, 1)) * uniform(count, 0.5, 1))
        spot = torch.sigmoid((reach - distance) * 60) * some(count, 0.5)
        image = image + spot * (uniform(count, 0.3, 1) - image)
    # Outside the body there is air; under the skin lies fat.
    rim = 0.02 * smooth_noise(count, 1, 8, size) + uniform(count, 0.75, 1.6)
    distance = torch.hypot((x - uniform(count, -0.2, 0.2)) * uniform(count, 0.7, 1), y - uniform(count, -0.2, 0.2))
    fat = torch.sigmoid((distance - rim + uniform(count, 0.03, 0.2)) * 50)
    image = image + fat * (uniform(count, 0.5, 1) - image)
    image = image * torch.sigmoid((rim - distance) * 50)
    return image * (1 + uniform(count, 0, 0.12) * smooth_noise(count, 1, 40, size))


def _regions(count: int, size: int) -> Tensor:
    number, cells = int(torch.randint(4, 9, ())), int(torch.randint(4, 10, ()))
    shares = torch.softmax(uniform(count, 4, 30) * smooth_noise(count, number, cells, size), dim=1)
    levels = torch.rand(count, number, 1, 1) ** torch.empty(count, 1, 1, 1).uniform_(1, 3)
    return (shares * levels).sum(dim=1, keepdim=True)


def tubes(start: Tensor, size: int) -> Tensor:
    """(count, 1, size, size) in [0, 1]: a straight vessel from a point outwards; none in a third of the samples.

    Args:
        start: (count, 2) x and y in [-1, 1].
        size: height and width of the field.
    """
    count = len(start)
    along, aside = _random_direction(start, size)
    length, reach = uniform(count, 0.25, 0.8), uniform(count, 0.03, 0.1)
    inside = torch.minimum(torch.minimum(along, length - along), reach - aside.abs())
    return torch.sigmoid(inside * 60) * some(count, 0.67)


def organs(middle: Tensor, size: int) -> Tensor:
    """(count, 1, size, size) in [0, 1]: a large organ, such as the liver, with a wavy edge near a point, or none.

    Args:
        middle: (count, 2) x and y in [-1, 1] of the heart's middle, from which the edge is at most 0.5 away.
        size: height and width of the field.
    """
    count = len(middle)
    along, _ = _random_direction(middle, size)
    beyond = along - uniform(count, 0.05, 0.5)
    edge = uniform(count, 0, 0.08) * smooth_noise(count, 1, 6, size)
    return torch.sigmoid((beyond + edge) * uniform(count, 20, 60)) * some(count, 0.7)


def _random_direction(start: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Each pixel's distance from a point (count, 2), along and across a random direction: (count, 1, H, W)."""
    axis = torch.linspace(-1, 1, size)
    angle = uniform(len(start), 0, 6.2832)
    away_x = axis.view(1, 1, 1, -1) - start[:, 0].view(-1, 1, 1, 1)
    away_y = axis.view(1, 1, -1, 1) - start[:, 1].view(-1, 1, 1, 1)
    return away_x * angle.cos() + away_y * angle.sin(), away_y * angle.cos() - away_x * angle.sin()
