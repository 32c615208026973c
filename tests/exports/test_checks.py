"""No writer writes numbers that a file cannot state, and none leaves a file behind."""

import numpy as np
import pytest

from cpgg_hf.cine import Cine
from cpgg_hf.dataset import cine_row
from cpgg_hf.exports import formats, write_cine

SHAPE = (8, 16, 16)


def spoilt(value, **settings):
    """A cine whose pixels were changed after it was made."""
    cine = Cine(pixels=np.full(SHAPE, 0.5), frame_time_ms=100.0, **settings)
    cine.pixels[3, 4, 5] = value
    return cine


def timed(frame_time_ms):
    return Cine(pixels=np.full(SHAPE, 0.5), frame_time_ms=frame_time_ms)


@pytest.mark.parametrize("name", formats())
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spoilt(np.nan), "must lie in \\[0, 1\\], given nan"),
        (lambda: spoilt(np.inf), "must lie in \\[0, 1\\], given 0.5 to inf"),
        (lambda: spoilt(1.5), "must lie in \\[0, 1\\], given 0.5 to 1.5"),
        (lambda: timed(0.0), "frame_time_ms must be a positive number, given 0"),
        (lambda: timed(-20.0), "frame_time_ms must be a positive number, given -20"),
        (lambda: timed(1e-50), "RR interval of 8e-50 ms, expected 1 to 60000"),
        (lambda: timed(1e5), "RR interval of 800000 ms, expected 1 to 60000"),
        (lambda: spoilt(0.5, slice_thickness_mm=np.nan), "slice_thickness_mm must be a positive number or None"),
        (lambda: spoilt(0.5, slice_thickness_mm=0), "slice_thickness_mm must be a positive number or None"),
    ],
)
def test_impossible_numbers_are_refused_by_every_format(tmp_path, name, make, message):
    with pytest.raises(ValueError, match=message):
        write_cine(tmp_path / "cine", make(), [name])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=message):  # a row of a data set
        cine_row(make())


@pytest.mark.parametrize("name", ["nifti", "npz"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_in_scanner_units_is_refused_too(tmp_path, name, value):
    with pytest.raises(ValueError, match="1 pixels of the cine are NaN or infinite; replace them by numbers"):
        write_cine(tmp_path / "cine", spoilt(value, scanner_units=True), [name])
    assert list(tmp_path.iterdir()) == []


def test_what_float32_cannot_hold_is_not_written_as_infinity(tmp_path):
    with pytest.raises(ValueError, match="NaN or infinite"):
        write_cine(tmp_path / "cine", spoilt(1e300, scanner_units=True), ["nifti"])
