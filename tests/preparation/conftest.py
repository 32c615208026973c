"""Phantom hearts in fields as large as a scanner's, and in a biobank's zips."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from phantom_zips import KINDS, PhantomZip, write_ukb_zips
from scipy import ndimage

from cpgg_hf import phantom


@dataclass(frozen=True)
class EmbeddedHeart:
    """`field` (50, H, W) on 1.8 mm pixels; the phantom's crop starts at `corner`, its heart spans `low` to `high`."""

    field: np.ndarray
    cine: np.ndarray
    labels: np.ndarray
    corner: np.ndarray
    low: np.ndarray
    high: np.ndarray


def embed_heart(seed: int, shape: tuple[int, int] = (150, 190)) -> EmbeddedHeart:
    """A phantom somewhere in a body: a breathing chest wall, four pulsating vessels, uneven tissue, noise."""
    rng = np.random.default_rng(seed)
    rendered = phantom.render(phantom.sample_phenotypes(1, seed)[0], seed)
    times = np.arange(50) / 50
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    tissue = 10 + 150 * ndimage.gaussian_filter(rng.standard_normal(shape), 6)
    field = np.repeat(tissue[None], 50, axis=0)
    for frame, time in zip(field, times, strict=True):
        reach = np.array(shape) / 2 - 4 + np.sin(1.4 * np.pi * time)
        radius = np.hypot((rows - shape[0] / 2) / reach[0], (columns - shape[1] / 2) / reach[1])
        frame += 200 * np.exp(-(((radius - 1) / 0.03) ** 2))
    for _ in range(4):
        place, size = rng.uniform([10, 10], np.array(shape) - 10), rng.uniform(2, 5)
        spot = np.exp(-((rows - place[0]) ** 2 + (columns - place[1]) ** 2) / size**2)
        field += spot * (180 + 60 * np.cos(2 * np.pi * (times - rng.uniform())))[:, None, None]
    corner = rng.integers([8, 14], np.array(shape) - 96 - [8, 14])
    ramp = np.clip(np.minimum(np.arange(96) + 1, 96 - np.arange(96)) / 6, 0, 1)
    weight = ramp[:, None] * ramp
    window = field[:, corner[0] : corner[0] + 96, corner[1] : corner[1] + 96]
    window += weight * (rendered.cine.pixels - window)
    field += 2 * rng.standard_normal(field.shape)
    heart = np.isin(
        rendered.labels, [phantom.LABELS[n] for n in ("LV cavity", "LV myocardium", "RV cavity", "LA", "RA")]
    )
    places = np.argwhere(heart.any(axis=0))
    return EmbeddedHeart(
        field=field.clip(0, None).astype(np.float32),
        cine=rendered.cine.pixels,
        labels=rendered.labels,
        corner=corner,
        low=places.min(axis=0) + corner,
        high=places.max(axis=0) + corner,
    )


@pytest.fixture(scope="session")
def embedded_hearts() -> list[EmbeddedHeart]:
    return [embed_heart(seed) for seed in range(6)]


@pytest.fixture(scope="session")
def heart(embedded_hearts) -> EmbeddedHeart:
    return embedded_hearts[0]


@pytest.fixture(scope="session")
def biobank(tmp_path_factory) -> tuple[Path, list[PhantomZip]]:
    """A folder with `bulk` and `phenotypes.csv`, one zip of every kind, and what is in each."""
    folder = tmp_path_factory.mktemp("ukb")
    return folder, write_ukb_zips(folder, len(KINDS), seed=3, kinds=list(KINDS), missing_share=0.1)
