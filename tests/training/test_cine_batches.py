"""The fingerprint that resumed runs and cached latents are bound to."""

import os

import numpy as np
import pytest

from cpgg_hf.cine import Cine
from cpgg_hf.dataset import CineWriter, write_description
from cpgg_hf.training.cine_batches import CineBatches, StreamedCines


def write(folder, num_inverted=0):
    """300 cines, of which the last are inverted; files have the same names and times."""
    for path in folder.glob("train-*.parquet"):
        path.unlink()
    pixels = np.random.default_rng(0).integers(0, 256, (300, 2, 3, 4), dtype=np.uint8)
    pixels[300 - num_inverted :] = 255 - pixels[300 - num_inverted :]
    with CineWriter(folder, "train", shard_size=100) as writer:
        for index, one in enumerate(pixels):
            cine = Cine(pixels=one, frame_time_ms=20.0, subject=str(index), source="noise", data_policy="phantom")
            writer.add(cine)
    write_description(folder)
    for path in folder.glob("train-*.parquet"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return str(folder)


@pytest.mark.parametrize("kind", [CineBatches, StreamedCines])
def test_it_covers_every_cine(tmp_path, kind):
    before = kind(write(tmp_path), "train")
    fingerprint, last = before.fingerprint(), next(iter(before.batches(300)))["cine"][-1]
    assert kind(write(tmp_path), "train").fingerprint() == fingerprint
    for num_inverted in (236, 1):
        inverted = kind(write(tmp_path, num_inverted), "train")
        assert inverted.fingerprint() != fingerprint
        assert (next(iter(inverted.batches(300)))["cine"][-1] == 255 - last).all()
