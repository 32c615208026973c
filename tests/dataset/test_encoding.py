"""The bytes of a cine and its preview: exact pixels, and a picture that shows the two phases."""

import io

import numpy as np
import pytest
from PIL import Image

from cpgg_hf.dataset.rows import decode_cine_into, encode_cine, end_systole, preview
from cpgg_hf.phantom import render, sample_phenotypes


@pytest.mark.parametrize("shape", [(50, 12, 12), (1, 3, 5), (2, 1, 1)])
def test_every_uint8_cine_comes_back_exactly(shape):
    cine = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    cine[0], cine[-1] = 255, 0  # the differences wrap around
    encoded = np.frombuffer(encode_cine(cine), np.uint8).reshape(shape)
    assert np.array_equal(decode_cine_into(np.empty(shape, np.uint8), encoded), cine)


def test_numpy_reads_it_as_documented():
    cine = np.random.default_rng(1).integers(0, 256, (6, 4, 5), dtype=np.uint8)
    row = {"cine": encode_cine(cine), "shape": [6, 4, 5]}
    read = np.cumsum(np.frombuffer(row["cine"], np.uint8).reshape(row["shape"]), axis=0, dtype=np.uint8)
    assert np.array_equal(read, cine)


def test_the_preview_shows_end_diastole_and_end_systole():
    phenotypes = sample_phenotypes(1, seed=3)[0]
    cine = render(phenotypes, seed=3).cine.pixels
    shown = np.asarray(Image.open(io.BytesIO(preview(cine))).convert("L")).astype(float)
    assert shown.shape == (96, 192)
    assert np.abs(shown[:, :96] - cine[0]).mean() < 4
    assert np.abs(shown[:, 96:] - cine[end_systole(cine)]).mean() < 4


def test_end_systole_of_a_cine_between_zero_and_one_is_found_as_in_uint8():
    cine = np.zeros((5, 8, 8), dtype=np.float32)
    cine[3, 2:6] = 0.9
    assert end_systole(cine) == end_systole((255 * cine).astype(np.uint8)) == 3


def test_end_systole_lies_where_the_left_ventricle_is_smallest():
    from cpgg_hf.phantom import LABELS

    for seed in range(3):
        rendered = render(sample_phenotypes(1, seed)[0], seed)
        area = (rendered.labels == LABELS["LV cavity"]).sum(axis=(1, 2))
        assert abs(end_systole(rendered.cine.pixels) - int(area.argmin())) <= 3
