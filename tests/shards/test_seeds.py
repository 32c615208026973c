"""One function for all seeds."""

import numpy as np
import pytest

from cpgg_hf.shards import derive_seed


def test_numbers_are_numpys_seed_sequence():
    """Data sets made before have these seeds."""
    expected = np.random.SeedSequence([7, 2, 41, 1]).generate_state(1, np.uint64)[0] >> 1
    assert derive_seed(7, 2, 41, 1) == int(expected)


def test_names_and_places_set_seeds_apart():
    parts = [
        ("pose",),
        (1, "pose"),
        (1, "contrast"),
        ("pose", 1),
        (1, "pose", 0),
        (0, "pose", 1),
        (10, "pose"),
        ("1", "pose"),
    ]
    seeds = {derive_seed(*one) for one in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_streams_of_two_names_are_independent():
    """Generators seeded for two domains of the same numbers share nothing that a correlation sees."""
    draws = [[np.random.default_rng(derive_seed(i, name)).standard_normal() for i in range(4000)] for name in "ab"]
    assert abs(np.corrcoef(draws)[0, 1]) < 4 / np.sqrt(4000)


def test_numpys_integers_are_numbers():
    assert derive_seed(np.int64(7), np.uint8(2)) == derive_seed(7, 2)
    assert derive_seed(np.int64(7), "pose") == derive_seed(7, "pose")


@pytest.mark.parametrize("parts", [(-1,), (-1, "pose")])
def test_negative_numbers_are_refused(parts):
    with pytest.raises(ValueError):
        derive_seed(*parts)
