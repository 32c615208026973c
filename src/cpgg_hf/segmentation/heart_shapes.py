"""Moving hearts for the scan segmenter: phantoms of its own seeds, and planes that are no four-chamber view.

They hold the share of each pixel that each structure covers, and the phantom's scan, at ten times of the beat. Other
views (short-axis rings, and hearts without some chambers) teach the network to detect a wrong view.
"""

import os
from functools import partial

import numpy as np

from cpgg_hf import phantom
from cpgg_hf.grid import GRID_SIZE, NUM_FRAMES
from cpgg_hf.phantom import LABELS
from cpgg_hf.phantom.rasterise import pixel_coordinates
from cpgg_hf.phenotypes import heart_rate, phenotype_index
from cpgg_hf.phenotypes.identities import CHAMBERS
from cpgg_hf.segmentation.phantom_frames import coverage
from cpgg_hf.segmentation.rendered import RenderedSubjects
from cpgg_hf.shards import derive_seed

SEED_ROOTS = {"train": 90310, "validation": 90311}
NUM_TIMES = 10
STRUCTURES = tuple(name for name in LABELS if name != "background")
# Of subject i: VIEW_OF_SUBJECT[i % 10].
VIEW_OF_SUBJECT = ("4ch", "sax", "4ch", "4ch", "2ch", "4ch", "sax", "4ch", "3ch", "4ch")
_MISSING = {"2ch": ("RV cavity", "RA"), "3ch": ("RA",)}


class HeartShapes(RenderedSubjects):
    """Moving hearts, rendered once into a folder: a data set that takes a list of indices.

    `shapes[[3, 17]]` is `{"cine": (2, 10, 96, 96) uint8, "coverage": (2, 10, 6, 96, 96) uint8 in 255ths, "is_phantom":
    (2,) bool}`: ten times of the beat; the cine is empty if the plane is not a phantom's.

    Args:
        folder: where they are kept; missing ones are rendered.
        num_subjects: a multiple of 50.
        split: "train" or "validation"; a phantom's seed depends on it.
        progress: whether to show a progress bar.
    """

    def __init__(
        self, folder: str | os.PathLike[str], num_subjects: int, split: str = "train", progress: bool = True
    ) -> None:
        settings = {
            "population_version": phantom.POPULATION_VERSION,
            "renderer_version": phantom.RENDERER_VERSION,
            "seed_root": SEED_ROOTS[split],
            "num_times": NUM_TIMES,
            "views": VIEW_OF_SUBJECT,
        }
        super().__init__(folder, f"hearts-{split}", num_subjects, settings, partial(_subject, split), progress)

    def __getitem__(self, indices: list[int]) -> dict[str, object]:
        import torch

        rows = torch.from_numpy(self.rows(indices))
        cine = rows[:, :, 0]
        return {"cine": cine, "coverage": rows[:, :, 1:], "is_phantom": cine.flatten(1).amax(dim=1) > 0}


def render_subject(split: str, index: int) -> phantom.PhantomHeart:
    """Phantom `index` of a split; its seed gives its phenotypes and its picture.

    Its chambers and walls vary more than the population's, since real hearts are more varied than phantoms.
    """
    seed = derive_seed(SEED_ROOTS[split], index)
    usual = phantom.sample_phenotypes(1, seed)[0]
    rng = np.random.default_rng([seed, 1])
    for strength in (1.0, 0.5):
        subject = phantom.render(_unusual(usual, strength, rng), seed)
        edges = subject.labels[:, :: GRID_SIZE - 1], subject.labels[:, :, :: GRID_SIZE - 1]
        if not any(edge.any() for edge in edges):
            return subject
    return phantom.render(usual, seed)


def _unusual(phenotypes: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """(82,) with volumes and ejection of each chamber, and the walls, drawn farther apart; the heart rate stays."""
    row = phenotypes.copy()
    rate = heart_rate(row[None])[0]
    for largest, smallest, stroke, fraction in CHAMBERS:
        volume, ejected = np.exp(strength * np.array([0.3, 0.25]) * rng.standard_normal(2))
        row[largest] *= volume
        row[fraction] = np.clip(row[fraction] * ejected, 10, 82)
        row[smallest] = row[largest] * (1 - row[fraction] / 100)
        row[stroke] = row[largest] * row[fraction] / 100
    row[phenotype_index("LVCO")] = rate * row[phenotype_index("LVSV")] / 1000
    walls = np.exp(strength * 0.25 * rng.standard_normal())
    for segment in range(1, 17):
        row[phenotype_index(f"WT_AHA_{segment}")] *= walls
    return row


def _subject(split: str, index: int) -> np.ndarray:
    """(1, 10, 7, 96, 96) uint8: the scan (empty if there is none) and six coverages at each time."""
    view = VIEW_OF_SUBJECT[index % len(VIEW_OF_SUBJECT)]
    if view == "sax":
        covered = short_axis(np.random.default_rng([SEED_ROOTS[split], index]))
        cine = np.zeros((NUM_TIMES, GRID_SIZE, GRID_SIZE))
    else:
        subject = render_subject(split, index)
        frames = np.arange(NUM_TIMES) * (NUM_FRAMES // NUM_TIMES)
        covered = coverage(subject.outlines, frames)[:, 1:]
        cine = subject.cine.pixels[frames] if view == "4ch" else np.zeros_like(subject.cine.pixels[frames])
        covered[:, [STRUCTURES.index(name) for name in _MISSING.get(view, ())]] = 0
    return np.concatenate([cine[:, None], np.rint(255 * covered)], axis=1).astype(np.uint8)[None]


def short_axis(rng: np.random.Generator) -> np.ndarray:
    """A beating ring of myocardium, the right ventricle's crescent beside it: (10, 6, 96, 96) float32 in [0, 1]."""
    grid = pixel_coordinates()
    cavity_mm, wall_mm, ejection = rng.uniform(12, 30), rng.uniform(6, 14), rng.uniform(0.2, 0.75)
    squeeze = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(NUM_TIMES) / NUM_TIMES)
    turn, oval = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(-0.12, 0.12))
    across, along = _turned(grid[None, :], grid[:, None], turn)
    distance = np.hypot(across * oval, along / oval)
    # From apex to base: no right ventricle, a thin crescent, one larger than the left.
    rv_reach, rv_height, rv_place = rng.uniform(0.4, 1.5), rng.uniform(0.8, 1.4), rng.uniform(0.4, 0.75)
    rv_across, rv_along = _turned(across, along, rng.uniform(-0.4, 0.4))
    covered = np.zeros((NUM_TIMES, len(STRUCTURES), GRID_SIZE, GRID_SIZE), dtype=np.float32)
    for time, share in enumerate(squeeze):
        inner = cavity_mm * np.sqrt(1 - ejection * share)
        outer = np.sqrt(inner**2 + (cavity_mm + wall_mm) ** 2 - cavity_mm**2)  # the wall keeps its area
        cavity, heart = _soft(inner - distance), _soft(outer - distance)
        reach, height = outer * rv_reach * (1 - 0.15 * share), outer * rv_height * (1 - 0.1 * share)
        right = _soft((1 - np.hypot((rv_across + rv_place * outer) / reach, rv_along / height)) * min(reach, height))
        covered[time, STRUCTURES.index("LV cavity")] = cavity
        covered[time, STRUCTURES.index("LV myocardium")] = heart - cavity
        covered[time, STRUCTURES.index("RV cavity")] = np.minimum(right, 1 - _soft(outer + 1 - distance))
    return covered


def _turned(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _soft(inside_mm: np.ndarray) -> np.ndarray:
    return np.clip(inside_mm / 1.8 + 0.5, 0.0, 1.0)
