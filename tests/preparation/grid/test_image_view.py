"""The image tells a four-chamber view from others where the plane is unknown."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cpgg_hf.errors import InputError
from cpgg_hf.phantom import LABELS, render, sample_phenotypes
from cpgg_hf.preparation.grid.heart_segmentation import load_scan_segmenter
from cpgg_hf.preparation.grid.image_view import four_chamber_doubts, mask_doubts
from cpgg_hf.preparation.grid.prepare import measure_on_grid, prepare_scan

from .test_prepare import series_of

SHIPPED = Path(__file__).parents[3] / "checkpoints" / "cpgg-phantom-small"


def one_hot(labels):
    return np.moveaxis(np.eye(len(LABELS), dtype=np.float32)[labels], -1, 1)


@pytest.fixture(scope="module")
def hearts():
    return [render(sample_phenotypes(1, seed)[0], seed).labels for seed in range(20, 28)]


def renamed(labels, **names):
    """Other names for some structures, given with underscores."""
    table = np.arange(len(LABELS))
    for name, other in names.items():
        table[LABELS[name.replace("_", " ")]] = LABELS[other]
    return table[labels]


def test_four_chamber_planes_pass_however_they_lie(hearts):
    for labels in hearts:
        for seen in (labels, labels[:, ::-1], np.rot90(labels, axes=(1, 2)), labels[::5]):
            assert four_chamber_doubts(one_hot(seen)) == ()


def test_chambers_that_lie_otherwise_are_no_four_chamber_view(hearts):
    for labels in hearts:
        sides = renamed(labels, LA="RA", RA="LA")
        assert any("border" in doubt for doubt in four_chamber_doubts(one_hot(sides)))
        two_chamber = renamed(labels, RA="background", RV_cavity="background")
        assert "RV cavity and RA cannot be seen" in four_chamber_doubts(one_hot(two_chamber))[0]
        closed = ndimage.grey_dilation(labels == LABELS["LV cavity"], (1, 9, 9)) & (labels != LABELS["LV cavity"])
        short_axis = np.where(closed, LABELS["LV myocardium"], labels)  # the wall goes all around
        assert any("LV myocardium" in doubt for doubt in four_chamber_doubts(one_hot(short_axis)))


def test_a_chamber_that_comes_and_goes_is_no_chamber(hearts):
    labels = hearts[0].copy()
    labels[20] = renamed(labels[20], RA="background")
    assert four_chamber_doubts(one_hot(labels)) == ("the RA cannot be seen over the whole beat",)


def test_a_mask_must_mark_all_chambers(hearts):
    assert mask_doubts(hearts[0][:1]) == ()
    assert mask_doubts(renamed(hearts[0][:1], RA="background")) == ("the mask marks no RA",)


def test_without_a_plane_the_image_decides(heart):
    segmenter = load_scan_segmenter(str(SHIPPED / "scan_segmenter"))
    scan = replace(series_of(heart.field[::5]), orientation=None, position=None)
    prepared = prepare_scan(scan, segmenter=segmenter, view="4ch")
    assert prepared.cine.pixels.shape == (50, 96, 96)
    for options in ({}, {"mask": np.ones((1, *scan.pixels.shape[1:]), dtype=np.uint8)}):
        with pytest.raises(InputError, match=r"neither the plane, which is not stated, nor the image.*--view any"):
            prepare_scan(scan, view="4ch", **options)
        prepare_scan(scan, view="any", **options)
        prepare_scan(series_of(heart.field[::5]), view="4ch", **options)  # its plane is known


def test_a_synthetic_cine_without_a_plane_is_judged_by_its_image():
    segmenter = load_scan_segmenter(str(SHIPPED / "cine_segmenter"))
    heart = render(sample_phenotypes(1, 4)[0], 4)
    assert measure_on_grid(heart.cine, segmenter, "4ch").measurement is not None
    shading = np.linspace(0, 1, 96)[None, :, None] * np.ones((50, 1, 96))
    other = heart.cine.with_pixels(shading.astype(np.float32))
    with pytest.raises(InputError, match="neither the plane"):
        measure_on_grid(other, segmenter, "4ch")
    assert measure_on_grid(other, segmenter, "any").measurement is not None
