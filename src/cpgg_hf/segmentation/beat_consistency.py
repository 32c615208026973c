"""Make the labels of one beat agree with each other: chambers keep their names, and each is one region.

A network that sees a few frames at a time can give the left ventricle the right one's name for part of the beat. The
septum hardly moves, so the names that most frames give to a place decide: a region whose pixels clearly have another
name over the beat is renamed. Then only the largest region of each chamber, and the only large vessel that looks like
the descending aorta, are kept. Mirrored labels give the mirrored result, exactly.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from scipy import ndimage

from cpgg_hf.phantom import LABELS

_CHAMBERS = [LABELS[name] for name in ("LV cavity", "RV cavity", "LA", "RA")]
_AORTA = LABELS["descending aorta"]
# Valves and walls move, so the edge of a chamber may have another name in other frames: a region is renamed only if
# its pixels have the other name this many times as often.
_CLEARLY = 1.5
_REACH = 3  # pixels around a region that belong to it: the width of a soft edge


def make_consistent(probabilities: np.ndarray) -> tuple[np.ndarray, float]:
    """Rename regions to the chamber that their pixels are over the beat, and keep one region per structure.

    Args:
        probabilities: (T, 7, H, W) in [0, 1], channels as `phantom.LABELS`.

    Returns:
        The changed probabilities, and the share of the chambers' pixels that had another name than over the beat, 0
        to 1.
    """
    result = probabilities.copy()
    votes = {chamber: probabilities[:, chamber].sum(axis=0) for chamber in _CHAMBERS}
    disputed = total = 0
    for frame in result:
        total += int(np.isin(frame.argmax(axis=0), _CHAMBERS).sum())
        disputed += _rename(frame, votes)
        _keep_largest(frame)
    _keep_only_vessel(result)
    return result, disputed / max(total, 1)


def _rename(frame: np.ndarray, votes: dict[int, np.ndarray]) -> int:
    """Rename regions of a frame (7, H, W), in place; returns the pixels of all regions with another name."""
    disputed = 0
    moves: dict[int, list[tuple[np.ndarray, int]]] = defaultdict(list)
    for chamber, region in _regions(frame):
        support = {other: float(vote[region].sum()) for other, vote in votes.items()}
        best = max(support, key=lambda other: support[other])
        disputed += int(region.sum()) if best != chamber else 0
        if support[best] > _CLEARLY * support[chamber]:
            moves[chamber].append((region, best))
    for chamber, regions in moves.items():
        claims = sum(_grown(region).astype(int) for region, _ in regions)
        for region, best in regions:
            moved = frame[chamber] * (region | (_grown(region) & (claims == 1)))
            frame[chamber] -= moved
            frame[best] += moved
    return disputed


def _keep_largest(frame: np.ndarray) -> None:
    """Turn all but the largest region of each chamber in a frame (7, H, W) into background, in place."""
    found = defaultdict(list)
    for chamber, region in _regions(frame):
        found[chamber].append(region)
    for chamber, regions in found.items():
        largest = max(regions, key=lambda region: float(frame[chamber][region].sum()))
        for region in regions:
            if region is not largest:
                _remove(frame, chamber, region | (_grown(region) & ~_grown(largest)))


def _keep_only_vessel(probabilities: np.ndarray) -> None:
    """Keep the vessel that is called descending aorta over the beat; none if a second one is over half as large."""
    mean = probabilities[:, _AORTA].mean(axis=0)
    vessels, count = ndimage.label(ndimage.binary_dilation(mean > 0.3))
    sizes = ndimage.sum_labels(mean, vessels, np.arange(1, count + 1))
    order = np.argsort(sizes)[::-1]
    if count > 1:
        only = sizes[order[1]] <= 0.5 * sizes[order[0]]
        kept = _grown(vessels == order[0] + 1) if only else np.zeros(mean.shape, dtype=bool)
        _remove(probabilities.swapaxes(0, 1), _AORTA, ~kept)


def _remove(maps: np.ndarray, label: int, where: np.ndarray) -> None:
    """Turn a label of maps (7, ..., H, W) into background at some pixels (H, W), in place."""
    maps[LABELS["background"]] += maps[label] * where
    maps[label] *= ~where


def _regions(frame: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """The connected regions (H, W) of each chamber in a frame (7, H, W), each with its label."""
    labels = frame.argmax(axis=0)
    regions = []
    for chamber in _CHAMBERS:
        components, count = ndimage.label(labels == chamber)
        regions += [(chamber, components == number) for number in range(1, count + 1)]
    return regions


def _grown(region: np.ndarray) -> np.ndarray:
    return ndimage.binary_dilation(region, iterations=_REACH)
