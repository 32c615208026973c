"""The shipped scan segmenter finds hearts in scans that it never saw, and what is no four-chamber view."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from cpgg_hf.errors import InputError
from cpgg_hf.measure.formulas import measure_labels
from cpgg_hf.phantom import render, sample_phenotypes
from cpgg_hf.phenotypes import phenotype_index
from cpgg_hf.preparation.grid.heart_segmentation import load_scan_segmenter, segmenter_fingerprint
from cpgg_hf.preparation.grid.prepare import prepare_scan
from cpgg_hf.segmentation.heart_shapes import STRUCTURES, short_axis

from .test_prepare import series_of

FOLDER = Path(__file__).parents[3] / "checkpoints" / "cpgg-phantom-small" / "scan_segmenter"


@pytest.fixture(scope="module")
def segmenter():
    return load_scan_segmenter(str(FOLDER))


def prepared(field, segmenter, **options):
    return prepare_scan(series_of(field), segmenter=segmenter, **options)


def test_it_is_small_and_says_how_it_was_trained(segmenter):
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 10e6
    assert {"command", "steps", "training_hearts"} <= segmenter.config.training_record.keys()
    assert len(segmenter_fingerprint(str(FOLDER))) == 16


def test_the_crop_holds_hearts_wherever_they_lie(embedded_hearts, segmenter):
    for heart in embedded_hearts:
        first = np.round(prepared(heart.field, segmenter, view="4ch").center - 47.5).astype(int)
        assert (heart.low >= first).all()
        assert (heart.high <= first + 95).all()


def test_a_scan_is_measured_as_it_was_rendered(embedded_hearts, segmenter):
    """Turned, mirrored, in a body of its own: a field that the network was not trained on."""
    truth, found = [], []
    for seed in (0, 1, 2):
        field = np.rot90(embedded_hearts[seed].field, k=seed, axes=(1, 2))[:, :, ::-1]
        scan = prepared(field, segmenter, view="4ch", with_probabilities=True)
        measured = measure_labels(
            torch.from_numpy(scan.probabilities), scan.cine.pixel_size_mm, scan.cine.frame_time_ms
        )
        found.append(measured.phenotypes)
        truth.append(render(sample_phenotypes(1, seed)[0], seed).phenotypes)
    # The right ventricle's thin wall is lost in tissue as bright: its volume is not promised.
    for name, tolerance in {"LVEDV": 0.1, "LVESV": 0.2, "LAV_max": 0.15}.items():
        index = phenotype_index(name)
        np.testing.assert_allclose(np.array(found)[:, index], np.array(truth)[:, index], rtol=tolerance, err_msg=name)
    index = phenotype_index("LVEF")
    np.testing.assert_allclose(np.array(found)[:, index], np.array(truth)[:, index], atol=6)


def scan_of(covered, seed):
    """A short axis (10, 6, 96, 96) as bright blood and dark muscle in a body."""
    rng = np.random.default_rng(seed)
    levels = np.array([0.8, 0.15, 0.75, 0.8, 0.8, 0.8])
    tissue = 0.15 + 0.15 * ndimage.gaussian_filter(rng.standard_normal((160, 160)), 8) * 8
    field = np.repeat(tissue[None], 10, axis=0)
    window = field[:, 32:128, 32:128]
    window += covered.sum(axis=1) * (-window) + np.einsum("tkhw,k->thw", covered, levels)
    return (field + 0.02 * rng.standard_normal(field.shape)).clip(0, 1)


def test_a_short_axis_is_noticed_in_the_image(segmenter):
    assert STRUCTURES[0] == "LV cavity"
    for seed in (3, 5, 8):
        field = scan_of(short_axis(np.random.default_rng(seed)), seed)
        with pytest.raises(
            InputError, match=r"does not show four-chamber|low segmentation confidence|no heart detected"
        ):
            prepare_scan(series_of(field), segmenter=segmenter, view="4ch")


def test_where_there_is_no_heart_nothing_is_cropped(segmenter):
    rng = np.random.default_rng(0)
    tissue = ndimage.gaussian_filter(rng.standard_normal((160, 160)), 6)
    beating = tissue[None] * (1 + 0.2 * np.sin(2 * np.pi * np.arange(20) / 20))[:, None, None]
    with pytest.raises(InputError, match=r"no heart detected|low segmentation confidence|lies .* mm from"):
        prepare_scan(series_of(beating - beating.min()), segmenter=segmenter)
