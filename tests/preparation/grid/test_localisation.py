"""The heart is found by its motion, wherever it lies and whatever else moves."""

import numpy as np
import pytest

from cpgg_hf.errors import InputError
from cpgg_hf.preparation.grid.localisation import find_heart, motion_map


def test_every_heart_lies_whole_in_the_crop(embedded_hearts):
    for index, heart in enumerate(embedded_hearts):
        kept = np.arange(0, 50, (1, 2, 4)[index % 3])
        center = find_heart(heart.field[kept], kept / 50, 1.8)
        first = np.round(center - 47.5)
        assert (heart.low >= first).all()
        assert (heart.high <= first + 95).all()
        assert np.abs(center - (heart.low + heart.high) / 2).max() <= 10  # pixels, 18 mm


def test_the_crop_follows_the_heart(heart):
    shifted = np.pad(heart.field, ((0, 0), (24, 0), (0, 0)), mode="edge")
    moved = find_heart(shifted, np.arange(50) / 50, 1.8) - find_heart(heart.field, np.arange(50) / 50, 1.8)
    assert moved == pytest.approx([24, 0], abs=4)


def test_the_motion_map_is_the_amplitude_of_the_beat():
    times = np.arange(20) / 20
    frames = np.full((20, 40, 40), 50.0)
    frames[:, :, 20:] += 10 * np.cos(2 * np.pi * times)[:, None, None]
    motion = motion_map(frames, times, 1.8)
    assert motion[20, 35] == pytest.approx(5)  # half of it at each of +1 and -1 beat
    assert motion[20, 5] == pytest.approx(0, abs=1e-9)


def test_a_still_image_is_refused():
    frames = np.repeat(np.random.default_rng(0).random((1, 120, 120)), 20, axis=0)
    with pytest.raises(InputError, match="nothing in the image moves"):
        find_heart(frames, np.arange(20) / 20, 1.8)
