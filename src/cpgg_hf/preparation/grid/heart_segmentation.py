"""Locate the heart in a field of view and recognise its chambers, with the scan segmenter.

A scan is refused if the network's confidence is low, or if the heart's motion (`localisation.py`) lies elsewhere.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from cpgg_hf.errors import InputError
from cpgg_hf.phantom import LABELS
from cpgg_hf.preparation.grid.localisation import find_heart
from cpgg_hf.preparation.grid.view import VIEW_NAMES
from cpgg_hf.segmentation.beat_consistency import make_consistent
from cpgg_hf.segmentation.segmenter import CineSegmenter, load_segmenter

CHAMBER_NAMES = ("LV cavity", "RV cavity", "LA", "RA")
_VENTRICLES = [LABELS[name] for name in ("LV cavity", "RV cavity", "LV myocardium")]
_HEART = [LABELS[name] for name in (*CHAMBER_NAMES, "LV myocardium")]
# From held-out random fields (benchmarks/scan_segmenter_quality.py): 99% of well-segmented hearts have a confidence
# above 0.88, and scans differ more from phantoms than these fields, so the limit is lower; 95% of the chambers in the
# image are larger than 620 mm2, and 99% of the false ones are smaller than 320.
_MIN_CONFIDENCE = 0.7
_MIRRORS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))
_TRIM, _TRIM_OF_VENTRICLES = 0.01, 0.002
_CLEARANCE = 12  # pixels around the ventricles, which most phenotypes describe
_MIN_HEART_MM2 = 2000.0
_MIN_CHAMBER_MM2 = 350.0
_MAX_DISAGREEMENT_MM = 45.0
# Names that change in more than a third of the beat are no longer decided by clear majorities.
_MAX_DISPUTED, _NOTED_DISPUTED = 0.3, 0.02
_NO_HEART = "no heart detected; provide a mask (`mask`, --mask)."


@dataclass(frozen=True)
class SegmentedField:
    """A segmented field of view with a heart.

    Attributes:
        probabilities: (T, 7, H, W) float32, channels as `phantom.LABELS`; regions apart from the heart are background.
        spacing_mm: pixel size.
        extent: (2, 2) first and last row, first and last column of the heart over the beat.
        ventricles: (2, 2) the same for the ventricles and the LV's wall.
        areas_mm2: mean area over the beat of each chamber and of the LV's myocardium.
        confidence: mean probability of the likeliest structure over the heart's pixels, 0 to 1.
        disputed: share of the chambers' pixels that had another name than over the beat, see `make_consistent`.
    """

    probabilities: np.ndarray
    spacing_mm: float
    extent: np.ndarray
    ventricles: np.ndarray
    areas_mm2: dict[str, float]
    confidence: float
    disputed: float

    @property
    def center(self) -> np.ndarray:
        """(2,) row and column of the heart's centre."""
        return self.extent.mean(axis=1)

    def crop_center(self, size: int) -> np.ndarray:
        """(2,) centre of a crop of this size: the heart's, shifted until the ventricles are clear of the edges."""
        reach = (size - 1) / 2 - _CLEARANCE
        low, high = self.ventricles[:, 1] - reach, self.ventricles[:, 0] + reach
        return np.where(low <= high, np.clip(self.center, low, high), self.ventricles.mean(axis=1))

    @property
    def view(self) -> str:
        """The view that shows these chambers: "4ch", "3ch", "2ch", "sax" or "unknown"."""
        shown = {name for name in CHAMBER_NAMES if self.areas_mm2[name] > _MIN_CHAMBER_MM2}
        if shown == set(CHAMBER_NAMES):
            return "4ch"
        if "LV cavity" not in shown:
            return "unknown"
        if not shown & {"LA", "RA"}:
            return "sax"
        return {("LA",): "2ch", ("LA", "RV cavity"): "3ch"}.get(tuple(sorted(shown - {"LV cavity"})), "unknown")


@lru_cache(maxsize=1)
def load_scan_segmenter(folder: str) -> CineSegmenter:
    """`load_segmenter`, once per process."""
    return load_segmenter(folder)


def segmenter_fingerprint(folder: str) -> str:
    """A hash of the weights in a folder."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch in one thread, so that results do not depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def segment_field(frames: np.ndarray, spacing_mm: float, segmenter: CineSegmenter) -> SegmentedField:
    """Segment a whole field of view, averaged over its four mirror images, with the same names over the whole beat.

    A mirrored scan gives exactly the mirrored result, and held-out Dice is higher by 0.003 (LV) to 0.01 (LV
    myocardium), at four times the compute.

    Args:
        frames: (T, H, W) in [0, 1] on square pixels, even times of one beat.
        spacing_mm: pixel size; the shipped scan segmenter was trained at 1.8.
        segmenter: a scan segmenter.

    Raises:
        InputError: no heart detected.
    """
    image = torch.from_numpy(frames.astype(np.float32))
    # Each mirror image is padded by itself, and the four are added in pairs: so a mirrored scan gives the same sums.
    first, second, third, fourth = (_segment_mirrored(image, axes, segmenter) for axes in _MIRRORS)
    probabilities = (((first + second) + (third + fourth)) / 4).cpu().numpy()

    heart = probabilities[:, _HEART].sum(axis=1)
    ever = heart.max(axis=0) > 0.5
    components, count = ndimage.label(ndimage.binary_dilation(ever))
    if count == 0:
        raise InputError(_NO_HEART)
    sizes = ndimage.sum_labels(heart.sum(axis=0), components, np.arange(1, count + 1))
    kept = components == 1 + int(np.argmax(sizes))
    for label in _HEART:
        apart = probabilities[:, label] * ~kept
        probabilities[:, label] -= apart
        probabilities[:, LABELS["background"]] += apart
    probabilities, disputed = make_consistent(probabilities)
    heart = probabilities[:, _HEART].sum(axis=1)
    seen = heart > 0.5
    return SegmentedField(
        probabilities=probabilities,
        spacing_mm=spacing_mm,
        extent=_extent(heart, _TRIM),
        ventricles=_extent(probabilities[:, _VENTRICLES].sum(axis=1), _TRIM_OF_VENTRICLES),
        areas_mm2={
            name: float(probabilities[:, LABELS[name]].sum(axis=(1, 2)).mean() * spacing_mm**2)
            for name in (*CHAMBER_NAMES, "LV myocardium")
        },
        confidence=float(probabilities[:, _HEART].max(axis=1)[seen].mean()),
        disputed=disputed,
    )


def _segment_mirrored(frames: torch.Tensor, axes: tuple[int, ...], segmenter: CineSegmenter) -> torch.Tensor:
    """(T, 7, H, W) probabilities of frames (T, H, W), from their mirror image."""
    height, width = frames.shape[1:]
    multiple = 2 ** len(segmenter.config.block_out_channels)
    padded = torch.nn.functional.pad(frames.flip(axes), (0, -width % multiple, 0, -height % multiple))
    return segmenter.segment(padded)[:, :, :height, :width].flip(axes)


def _extent(probability: np.ndarray, trim: float) -> np.ndarray:
    """(2, 2) the first and last row, then column, that contain all but a small share at each end.

    Args:
        probability: (T, H, W).
        trim: the share, which excludes thin veins and specks.
    """
    ever = (probability > 0.5).any(axis=0)
    least = trim * ever.sum()
    counts = (ever.sum(axis=axis) for axis in (1, 0))
    ends = ((np.cumsum(count), np.cumsum(count[::-1])) for count in counts)
    return np.array(
        [[np.searchsorted(up, least), len(up) - 1 - np.searchsorted(down, least)] for up, down in ends], np.float64
    )


def require_heart(
    found: SegmentedField, frames: np.ndarray, phases: np.ndarray, requested_view: str
) -> tuple[str, ...]:
    """Refuse a field if the heart or the requested view is in doubt.

    Args:
        found: from `segment_field`.
        frames: (T, H, W) the acquired frames on the same pixels.
        phases: (T,) their times as shares of the beat.
        requested_view: "4ch", or "any".

    Returns:
        Warnings, without the file's name.

    Raises:
        InputError: the reason, likewise.
    """
    if sum(found.areas_mm2.values()) < _MIN_HEART_MM2:
        raise InputError(_NO_HEART)
    if found.confidence < _MIN_CONFIDENCE:
        raise InputError(
            f"low segmentation confidence ({found.confidence:.2f}, minimum {_MIN_CONFIDENCE:.2f}); check the image, "
            "and provide a mask (`mask`, --mask)."
        )
    if found.disputed > _MAX_DISPUTED:
        raise InputError(
            f"the segmentation changes the chambers' names over the beat ({100 * found.disputed:.0f}% of their "
            f"pixels, at most {100 * _MAX_DISPUTED:.0f}%); check the image, and provide a mask (`mask`, --mask)."
        )
    beating = find_heart(frames, phases, found.spacing_mm)
    apart_mm = float(np.hypot(*(beating - found.center))) * found.spacing_mm
    if apart_mm > _MAX_DISAGREEMENT_MM:
        raise InputError(
            f"the segmented heart lies {apart_mm:.0f} mm from the beating region; check the image, and "
            "provide a mask (`mask`, --mask)."
        )
    if requested_view == "4ch" and found.view != "4ch":
        shown = ", ".join(name for name in CHAMBER_NAMES if found.areas_mm2[name] > _MIN_CHAMBER_MM2) or "no chamber"
        raise InputError(
            f"the image does not show {VIEW_NAMES['4ch']} but looks like {VIEW_NAMES[found.view]} (seen: {shown}); "
            "give a 4CH series, or accept it with --view any."
        )
    if found.disputed < _NOTED_DISPUTED:
        return ()
    return (
        f"the segmentation changed the chambers' names over the beat; they were made consistent "
        f"({100 * found.disputed:.0f}% of their pixels), check the picture.",
    )
