from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cpgg_hf.cine import Cine
from cpgg_hf.measure import measure_cine, measure_cines
from cpgg_hf.segmentation.segmenter import CineSegmenter


class ExactSegmenter:
    """Returns the phantom's exact labels, and keeps the pixels it was given."""

    config = SimpleNamespace(block_out_channels=(4, 8))

    def __init__(self, coverage):
        self.coverage = coverage

    def segment(self, frames):
        self.given = frames
        return self.coverage


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return CineSegmenter(block_out_channels=(4, 8), norm_num_groups=2).eval()


@pytest.mark.parametrize("size", [(94, 96), (96, 94)])
def test_sizes_that_the_network_cannot_halve_are_refused(tiny, size):
    with pytest.raises(ValueError, match=rf"multiples of 4, given \({size[0]}, {size[1]}\)\."):
        measure_cine(Cine(pixels=np.zeros((50, *size)), frame_time_ms=18.0), tiny)


def test_the_cines_pixel_size_and_frame_time_set_the_units(subjects, exact_coverage):
    segmenter = ExactSegmenter(exact_coverage[0])
    cine = subjects[0].cine
    full = measure_cine(cine, segmenter)
    np.testing.assert_allclose(full.phenotypes[0], cine.phenotypes[0], rtol=0.015)
    np.testing.assert_array_equal(segmenter.given.numpy(), cine.unit)
    half = cine.with_pixels(cine.unit, spacing_mm=cine.spacing_mm[0] / 2)
    assert measure_cine(half, segmenter).aorta_area_mm2 == pytest.approx(full.aorta_area_mm2 / 4)
    slow = cine.with_pixels(cine.unit, frame_time_ms=2 * cine.frame_time_ms, times_ms=None, rr_ms=None)
    index = 4  # cardiac output
    assert measure_cine(slow, segmenter).phenotypes[index] == pytest.approx(full.phenotypes[index] / 2)


def test_pixels_that_are_not_square_are_refused(tiny):
    with pytest.raises(ValueError, match="expected square ones"):
        measure_cine(Cine(pixels=np.zeros((4, 32, 32)), frame_time_ms=18.0, spacing_mm=(1.0, 2.0)), tiny)


def test_many_cines_give_a_row_each_with_their_own_geometry(tiny):
    pixels = np.random.default_rng(0).random((2, 4, 32, 32))
    cines = [Cine(pixels=one, frame_time_ms=18.0, spacing_mm=mm) for one, mm in zip(pixels, (1.8, 1.5), strict=True)]
    rows = measure_cines(iter(cines), tiny)
    np.testing.assert_array_equal(rows, [measure_cine(cine, tiny).phenotypes for cine in cines])


def test_no_cines_give_an_empty_table(tiny):
    assert measure_cines([], tiny).shape == (0, 82)
