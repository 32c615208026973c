import numpy as np
import pytest
import torch

from cpgg_hf.measure import measure_cine, measure_cines
from cpgg_hf.segmentation.segmenter import CineSegmenter


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return CineSegmenter(block_out_channels=(4, 8), norm_num_groups=2).eval()


@pytest.mark.parametrize(
    ("cine", "complaint"),
    [
        (np.zeros((96, 96)), r"\(T, H, W\).*got \(96, 96\)"),
        (np.zeros((50, 95, 96)), r"multiples of 4.*got \(50, 95, 96\)"),
        (np.full((4, 32, 32), -1.0), r"in \[0, 1\], got -1 to -1"),
        (np.full((4, 32, 32), 200.0), r"in \[0, 1\], got 200 to 200"),
        (np.full((4, 32, 32), np.nan), r"in \[0, 1\], got nan"),
    ],
)
def test_what_is_no_cine_is_refused_with_a_reason(tiny, cine, complaint):
    with pytest.raises(ValueError, match=complaint):
        measure_cine(cine, 1.8, 18.0, tiny)


def test_pixel_size_and_frame_time_must_be_positive(tiny):
    with pytest.raises(ValueError, match=r"positive, given 0.* and 18"):
        measure_cine(np.zeros((4, 32, 32)), 0.0, 18.0, tiny)


def test_one_spacing_a_cine_or_one_for_all(tiny):
    cines = np.random.default_rng(0).random((2, 4, 32, 32))
    assert measure_cines(cines, [1.8, 1.5], 18.0, tiny).shape == (2, 82)
    with pytest.raises(ValueError, match="frame_time_ms must be one number or one for each of the 2 cines"):
        measure_cines(cines, 1.8, [18.0, 18.0, 18.0], tiny)


def test_no_cines_give_an_empty_table(tiny):
    assert measure_cines([], 1.8, 18.0, tiny).shape == (0, 82)
