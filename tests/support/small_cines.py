"""A data set of tiny cines for tests: cine i is filled with i and has phenotypes i, so that a row names itself."""

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.dataset import CineWriter, write_description

SHAPE = (4, 3, 2)


def write_numbered(folder, num_cines, split="train", shard_size=70):
    with CineWriter(folder, split, shard_size) as writer:
        for number in range(num_cines):
            writer.add(
                Cine(
                    pixels=np.full(SHAPE, number % 256, np.uint8),
                    frame_time_ms=20.0,
                    subject=f"{split}-{number}",
                    source="numbers",
                    data_policy="phantom",
                    phenotypes=np.full(82, float(number)),
                )
            )
    write_description(folder)
    return folder


def numbers(batches):
    """The rows of batches by their numbers, each checked to have the cine that belongs to its phenotypes."""
    found = []
    for batch in batches:
        values = batch["phenotypes"][:, 0].long()
        assert (batch["phenotypes"] == values[:, None]).all()
        assert (batch["cine"] == (values % 256)[:, None, None, None]).all()
        assert batch["cine"].shape[1:] == SHAPE
        found += values.tolist()
    return found
