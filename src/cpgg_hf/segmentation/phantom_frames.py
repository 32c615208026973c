"""Training data of the cine segmenter: phantom frames with the share of each pixel that each structure covers.

Its seeds (`SEED_ROOTS`) differ from those of every phantom data set, so that it is never trained on a measured cine.
"""

import os
from typing import Literal

import numpy as np

from cpgg_hf import phantom
from cpgg_hf.grid import GRID_SIZE
from cpgg_hf.phantom.geometry import HeartOutlines
from cpgg_hf.phantom.rasterise import StarShape
from cpgg_hf.segmentation.rendered import RenderedSubjects
from cpgg_hf.shards import derive_seed

SEED_ROOTS = {"train": 90210, "validation": 90211, "test": 90212}
# The frame itself between an earlier and a later one, so that the network sees which borders move.
CONTEXT_FRAMES = (-2, 0, 2)
_FRAMES_PER_SUBJECT = 6
_CIRCLE = np.linspace(0, 2 * np.pi, 96, endpoint=False)

Split = Literal["train", "validation", "test"]


def subject_seed(split: Split, index: int) -> int:
    """The seed of phantom `index` of a split; it gives both its phenotypes and its picture."""
    return derive_seed(SEED_ROOTS[split], index)


def render_subject(split: Split, index: int) -> phantom.PhantomHeart:
    """Phantom `index` of a split."""
    seed = subject_seed(split, index)
    return phantom.render(phantom.sample_phenotypes(1, seed)[0], seed)


def coverage(outlines: HeartOutlines, frames: np.ndarray) -> np.ndarray:
    """The share of each pixel that each structure covers, by the exact outlines.

    Args:
        outlines: a phantom's outlines over the cycle.
        frames: (F,) which frames.

    Returns:
        (F, 7, 96, 96) float32 in [0, 1], channels as `phantom.LABELS`; they sum to one.
    """
    circle = np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE)], axis=-1)
    aorta = outlines.aorta_centre + outlines.aorta_radius[frames, None, None] * circle

    def share(outline: np.ndarray) -> np.ndarray:
        shape = StarShape(outline, 2.0)
        covered = np.zeros((len(frames), GRID_SIZE, GRID_SIZE), dtype=np.float32)
        covered[shape.window] = shape.coverage()
        return covered

    result = np.zeros((len(frames), len(phantom.LABELS), GRID_SIZE, GRID_SIZE), dtype=np.float32)
    cavity, wall = share(outlines.lv_cavity[frames]), share(outlines.lv_wall[frames])
    result[:, phantom.LABELS["LV cavity"]] = cavity
    result[:, phantom.LABELS["LV myocardium"]] = np.maximum(wall - cavity, 0)
    rest = 1 - np.maximum(wall, cavity)
    # Where two structures share a pixel, the one behind gets what the one in front leaves.
    for name, outline in (
        ("RV cavity", outlines.rv_blob[frames]),
        ("LA", outlines.la[frames]),
        ("RA", outlines.ra[frames]),
        ("descending aorta", aorta),
    ):
        visible = np.minimum(share(outline), rest)
        result[:, phantom.LABELS[name]] = visible
        rest = rest - visible
    result[:, phantom.LABELS["background"]] = rest
    return result


class PhantomFrames(RenderedSubjects):
    """Training frames, rendered once into a folder: a data set that takes a list of indices.

    `frames[[3, 17]]` is `{"frames": (2, 3, 96, 96) uint8, "coverage": (2, 6, 96, 96) uint8}`: a frame between two
    others (`CONTEXT_FRAMES`), and the coverage of labels 1 to 6 in 255ths.

    Args:
        folder: where the frames are kept; missing ones are rendered (about 4 subjects per second).
        num_subjects: phantoms, a multiple of 50; six frames each, end diastole and end systole among them.
        progress: whether to show a progress bar.
    """

    def __init__(self, folder: str | os.PathLike[str], num_subjects: int, progress: bool = True):
        settings = {
            "population_version": phantom.POPULATION_VERSION,
            "renderer_version": phantom.RENDERER_VERSION,
            "seed_root": SEED_ROOTS["train"],
            "context_frames": CONTEXT_FRAMES,
            "frames_per_subject": _FRAMES_PER_SUBJECT,
        }
        super().__init__(folder, "frames", num_subjects, settings, _subject_frames, progress)

    def __getitem__(self, indices: list[int]) -> dict[str, object]:
        import torch

        rows = torch.from_numpy(self.rows(indices))
        return {"frames": rows[:, : len(CONTEXT_FRAMES)], "coverage": rows[:, len(CONTEXT_FRAMES) :]}


def _subject_frames(index: int) -> np.ndarray:
    """(6, 9, 96, 96) uint8: three frames and six coverages for each chosen frame of a training subject."""
    subject = render_subject("train", index)
    others = np.setdiff1d(np.arange(len(subject.cine.pixels)), [0, subject.end_systole])
    rng = np.random.default_rng([SEED_ROOTS["train"], index])
    chosen = np.array([0, subject.end_systole, *rng.choice(others, _FRAMES_PER_SUBJECT - 2, replace=False)])
    context = (chosen[:, None] + np.array(CONTEXT_FRAMES)) % len(subject.cine.pixels)
    shares = np.rint(255 * coverage(subject.outlines, chosen)[:, 1:]).astype(np.uint8)
    return np.concatenate([subject.cine.pixels[context], shares], axis=1)
