"""A pipeline's output as cines."""

from types import SimpleNamespace

import numpy as np
import pandas

from cpgg_hf.generation.generator import cines_of


def test_a_pipelines_output_becomes_cines_with_their_own_phenotypes():
    output = SimpleNamespace(
        cines=np.stack([np.zeros((4, 8, 8)), np.ones((4, 8, 8))]),
        frame_time_ms=[18.0, 20.0],
        phenotypes=pandas.DataFrame(np.stack([np.full(82, 1.0), np.full(82, 2.0)])),
        seeds=[5, 6],
        spacing_mm=1.8,
    )
    first, second = cines_of(output)
    assert (first.seed, second.seed) == (5, 6)
    assert (first.rr_ms, second.rr_ms) == (72, 80)
    assert (second.pixels == 1).all()
    assert (second.phenotypes == 2).all()
    assert not second.acquired
