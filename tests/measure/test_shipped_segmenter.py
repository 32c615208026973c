"""The segmenter that the repository ships measures phantoms that it never saw."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cpgg_hf.cine import Cine
from cpgg_hf.measure import measure_cine, measure_cines
from cpgg_hf.metrics import controllability
from cpgg_hf.phenotypes import phenotype_index
from cpgg_hf.segmentation.phantom_frames import render_subject
from cpgg_hf.segmentation.segmenter import CineSegmenter

FOLDER = Path(__file__).parents[2] / "checkpoints" / "cpgg-phantom-small" / "cine_segmenter"
VOLUMES = [phenotype_index(name) for name in ("LVEDV", "LVESV", "RVEDV", "LAV_max", "RAV_max")]


@pytest.fixture(scope="module")
def segmenter():
    return CineSegmenter.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def held_out():
    return [render_subject("test", index) for index in range(24)]


@pytest.fixture(scope="module")
def measured(segmenter, held_out):
    return measure_cines((subject.cine for subject in held_out), segmenter)


def test_it_reads_the_phenotypes_of_phantoms_it_never_saw(held_out, measured):
    r2 = controllability(np.stack([subject.phenotypes for subject in held_out]), measured, num_resamples=1)["r2"]
    bounds = {
        **dict.fromkeys(("LVEDV", "LVESV", "LVEF", "LVCO", "RVEDV", "RVESV", "LAV_max", "LAV_min"), 0.97),
        **dict.fromkeys(("RAV_max", "RAV_min", "DAo_max_area", "DAo_min_area", "Ell_Global"), 0.95),
        **dict.fromkeys(("RVEF", "LAEF", "RAEF", "septal_wall", "lateral_wall"), 0.9),
        **{f"WT_AHA_{k}": 0.85 for k in (3, 9, 14, 6, 12, 16)},
    }
    missed = {name: float(r2[name]) for name, bound in bounds.items() if not r2[name] >= bound}
    assert not missed


def test_a_slight_blur_as_of_a_decoded_cine_changes_little(segmenter, held_out, measured):
    for subject, sharp in zip(held_out[:4], measured[:4], strict=True):
        frames = torch.from_numpy(subject.cine.unit)[:, None]
        kernel = torch.exp(-0.5 * (torch.arange(-3.0, 4.0) / 0.7) ** 2)
        kernel = torch.outer(kernel, kernel) / kernel.sum() ** 2
        blurred = torch.nn.functional.conv2d(
            torch.nn.functional.pad(frames, [3] * 4, mode="replicate"), kernel[None, None]
        )
        row = measure_cine(subject.cine.with_pixels(blurred[:, 0].numpy()), segmenter).phenotypes
        np.testing.assert_allclose(row[VOLUMES], sharp[VOLUMES], rtol=0.03)
        np.testing.assert_allclose(row[phenotype_index("LVEF")], sharp[phenotype_index("LVEF")], atol=1.0)
        np.testing.assert_allclose(row[phenotype_index("WT_AHA_9")], sharp[phenotype_index("WT_AHA_9")], atol=0.5)


def moved(cine):
    return np.roll(cine.pixels, (3, -4), axis=(1, 2))


def brighter(cine):
    return np.clip(1.15 * cine.unit + 0.03, 0, 1)


@pytest.mark.parametrize("change", [moved, brighter])
def test_place_and_contrast_change_little(segmenter, held_out, measured, change):
    subject, before = held_out[0], measured[0]
    row = measure_cine(subject.cine.with_pixels(change(subject.cine)), segmenter).phenotypes
    np.testing.assert_allclose(row[VOLUMES], before[VOLUMES], rtol=0.04)


def test_a_cine_without_a_heart_has_no_phenotypes(segmenter):
    assert np.isnan(measure_cine(Cine(pixels=np.zeros((50, 96, 96)), frame_time_ms=18.0), segmenter).phenotypes).all()


def test_a_cine_gets_the_same_row_alone_and_among_others(segmenter, held_out, measured):
    subject = held_out[3]
    alone = measure_cine(subject.cine.with_pixels(subject.cine.unit), segmenter).phenotypes
    np.testing.assert_allclose(alone, measured[3], rtol=1e-5)


def test_it_records_its_training_and_is_small(segmenter):
    assert segmenter.config.training_record["test_r2"]["LVEDV"] > 0.97
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 10e6
