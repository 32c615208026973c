"""Whether the image itself shows a four-chamber view: four chambers that lie as such a plane cuts them.

Four labels are no proof, since a network names something in most images. In a four-chamber plane each atrium borders
its own ventricle and nothing else, the septum separates left from right, both sides run the same way, the LV is longer
than wide, and its wall is open only at the mitral valve. The limits come from random fields: of fresh ones,
benchmarks/view_check_quality.py takes 53 of 55 four-chamber hearts with four labels, and none of 7 other planes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from cpgg_hf.errors import InputError
from cpgg_hf.phantom import LABELS

_NUM_TIMES = 10  # of the beat, as in the random fields that gave the limits
_CHAMBERS = ("LV cavity", "RV cavity", "LA", "RA")
_BORDER = 3  # pixels around a chamber that count as its border
# Share of a chamber's border that another structure takes up: smallest, largest.
_BORDERS = {
    ("LV cavity", "LA"): (0.08, 0.3),
    ("RV cavity", "RA"): (0.08, 0.35),
    ("LV cavity", "LV myocardium"): (0.5, 0.92),
    ("LV cavity", "RV cavity"): (0.0, 0.05),
    ("LV cavity", "RA"): (0.0, 0.03),
    ("RV cavity", "LA"): (0.0, 0.03),
}
_MAX_DEGREES = 35.0  # between left and right side, and between ventricles and atria
_MIN_ELONGATION = 1.3  # of the LV at end diastole
_MIN_SHARE = 0.25  # of a chamber's mean area, at every time


def four_chamber_doubts(probabilities: np.ndarray) -> tuple[str, ...]:
    """What speaks against a four-chamber view; empty if the image shows one.

    Args:
        probabilities: (T, 7, H, W) over one beat from end diastole on square pixels, channels as `phantom.LABELS`.
    """
    labels = probabilities[:: max(1, len(probabilities) // _NUM_TIMES)].argmax(axis=1)
    chambers = {name: labels == LABELS[name] for name in _CHAMBERS}
    missing = [
        name for name, mask in chambers.items() if mask.sum(axis=(1, 2)).min() <= _MIN_SHARE * mask.sum() / len(mask)
    ]
    if missing:
        return (f"the {' and '.join(missing)} cannot be seen over the whole beat",)
    return (*_border_doubts(labels, chambers), *_shape_doubts(chambers))


def mask_doubts(mask: np.ndarray) -> tuple[str, ...]:
    """What speaks against a four-chamber view in a user's labels, see `read_mask`: chambers that are not marked."""
    missing = [name for name in _CHAMBERS if not (mask == LABELS[name]).any()]
    return (f"the mask marks no {' and no '.join(missing)}",) if missing else ()


def require_four_chambers(doubts: tuple[str, ...]) -> None:
    """Refuse an image without a known plane if anything speaks against a four-chamber view.

    Raises:
        InputError: with the doubts, without the file's name.
    """
    if doubts:
        raise InputError(
            f"neither the plane, which is not stated, nor the image shows a four-chamber view ({'; '.join(doubts)}); "
            "give a 4CH series, or accept it with --view any."
        )


def _border_doubts(labels: np.ndarray, chambers: dict[str, np.ndarray]) -> Iterator[str]:
    across = ndimage.generate_binary_structure(3, 1)
    across[[0, 2]] = False  # within each frame
    rings = {
        name: ndimage.binary_dilation(mask, across, iterations=_BORDER) & ~mask for name, mask in chambers.items()
    }
    for (chamber, other), (low, high) in _BORDERS.items():
        share = float((labels[rings[chamber]] == LABELS[other]).mean())
        if not low <= share <= high:
            yield f"the {other} takes up {100 * share:.0f}% of the {chamber}'s border, not {low:.0%} to {high:.0%}"


def _shape_doubts(chambers: dict[str, np.ndarray]) -> Iterator[str]:
    lv, rv, la, ra = (np.argwhere(mask)[:, 1:].mean(axis=0) for mask in chambers.values())
    for one, other, names in (
        (lv - la, rv - ra, "the left and the right side"),
        (rv - lv, ra - la, "the ventricles and the atria"),
    ):
        degrees = np.rad2deg(np.arccos(one @ other / (np.linalg.norm(one) * np.linalg.norm(other))))
        if not degrees <= _MAX_DEGREES:
            yield f"{names} lie {degrees:.0f} degrees apart, not up to {_MAX_DEGREES:.0f}"
    narrow, long = np.sqrt(np.linalg.eigvalsh(np.cov(np.argwhere(chambers["LV cavity"][0]).T)))
    if not long >= _MIN_ELONGATION * narrow:
        yield f"the LV is {long / narrow:.1f} times as long as wide, not at least {_MIN_ELONGATION}"
