"""Phenotypes of cines: segmentation, then the formulas."""

from collections.abc import Iterable

import numpy as np
import torch
from tqdm.auto import tqdm

from cpgg_hf.cine import Cine
from cpgg_hf.measure.formulas import CineMeasurement, measure_labels
from cpgg_hf.phenotypes import NAMES
from cpgg_hf.segmentation.segmenter import CineSegmenter


def measure_cine(cine: Cine, segmenter: CineSegmenter) -> CineMeasurement:
    """Measure one cine.

    Args:
        cine: one heartbeat from end diastole with square pixels; the shipped segmenters were trained on
            (50, 96, 96) at 1.8 mm.
        segmenter: `CineSegmenter.from_pretrained(folder)`.

    Returns:
        The phenotypes (82,), NaN where a four-chamber view does not show them or the structure was not found, with
        the end-systolic frame and the curves over the cycle.

    Raises:
        ValueError: pixels that are not square or in scanner units, or a height or width that the network cannot halve.
    """
    multiple = 2 ** len(segmenter.config.block_out_channels)
    if cine.pixels.shape[1] % multiple or cine.pixels.shape[2] % multiple:
        raise ValueError(
            f"the segmenter needs a height and width that are multiples of {multiple}, given {cine.pixels.shape[1:]}."
        )
    probabilities = segmenter.segment(torch.from_numpy(cine.unit.copy())).cpu()
    return measure_labels(probabilities, cine.pixel_size_mm, cine.frame_time_ms)


def measure_cines(cines: Iterable[Cine], segmenter: CineSegmenter, progress: bool = False) -> np.ndarray:
    """Measure many cines, one after another.

    Args:
        cines: as `measure_cine` takes them.
        segmenter: `CineSegmenter.from_pretrained(folder)`.
        progress: whether to show a progress bar.

    Returns:
        (B, 82) float64 in physical units, NaN where not measurable.

    Raises:
        ValueError: as `measure_cine`.
    """
    shown = tqdm(cines, desc="measuring", unit="cine", disable=not progress)
    rows = [measure_cine(cine, segmenter).phenotypes for cine in shown]
    return np.stack(rows) if rows else np.empty((0, len(NAMES)))
