"""npz holds a cine and what is known about it."""

import numpy as np
import pytest

from cpgg_hf.cine import Cine
from cpgg_hf.exports.npz import write_npz


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_npz_holds_the_cine_and_what_is_known_about_it(tmp_path, kind):
    phenotypes = np.arange(82.0)
    phenotypes[5] = np.nan
    pixels = np.random.default_rng(0).integers(0, 2, (8, 6, 4)).astype(kind)
    cine = Cine(pixels=pixels, frame_time_ms=17.3, spacing_mm=1.4, phenotypes=phenotypes, seed=2**62)
    with np.load(write_npz(tmp_path / "cine.npz", cine)) as archive:
        assert np.array_equal(archive["cine"], pixels)
        assert archive["cine"].dtype == kind
        assert np.array_equal(archive["phenotypes"], phenotypes, equal_nan=True)
        assert (archive["spacing_mm"], archive["frame_time_ms"], archive["seed"]) == (1.4, 17.3, 2**62)


def test_what_is_unknown_is_marked_and_other_endings_are_refused(tmp_path):
    cine = Cine(pixels=np.zeros((8, 6, 4)), frame_time_ms=20.0)
    with np.load(write_npz(tmp_path / "unknown.npz", cine)) as archive:
        assert np.isnan(archive["phenotypes"]).all()
        assert archive["seed"] == -1
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        write_npz(tmp_path / "cine.npy", cine)
