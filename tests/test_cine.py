"""`Cine` refuses pixels and geometry that contradict each other, and converts between the ranges exactly."""

import numpy as np
import pytest
import torch

from cpgg_hf.cine import Cine, from_network, to_network

UINT8 = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)


def test_uint8_and_unit_pixels_are_converted_without_loss():
    cine = Cine(pixels=UINT8, frame_time_ms=20.0)
    assert cine.unit.dtype == np.float32
    assert (cine.unit.min(), cine.unit.max()) == (0, 1)
    assert np.array_equal(cine.with_pixels(cine.unit).uint8, UINT8)


def test_the_network_range_is_minus_one_to_one_and_back():
    tensor = to_network(torch.from_numpy(UINT8)[None])
    assert tensor.shape == (1, 1, 4, 8, 8)
    assert (tensor.min(), tensor.max()) == (-1, 1)
    assert from_network(tensor)[0].numpy() == pytest.approx(UINT8 / 255, abs=1e-6)
    assert from_network(torch.full((1, 1, 1, 1, 1), 1.5)).item() == 1  # networks overshoot


def test_times_spacing_and_beat_follow_from_the_frame_time():
    cine = Cine(pixels=UINT8, frame_time_ms=20, spacing_mm=1.5)
    assert cine.times_ms.tolist() == [0, 20, 40, 60]
    assert cine.rr_ms == 80
    assert cine.spacing_mm == (1.5, 1.5)
    assert cine.pixel_size_mm == 1.5
    assert len(cine) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixels": UINT8[0]}, "three axes"),
        ({"pixels": UINT8[:0]}, "three axes"),
        ({"pixels": UINT8.astype(np.float32)}, r"must lie in \[0, 1\], given 0 to 255; scale it, or pass uint8"),
        ({"pixels": np.full((4, 8, 8), np.nan)}, r"must lie in \[0, 1\], given nan"),
        ({"frame_time_ms": 0.0}, "frame_time_ms must be a positive number, given 0"),
        ({"frame_time_ms": np.inf}, "frame_time_ms must be a positive number"),
        ({"spacing_mm": (1.8, -1.8)}, "spacing_mm must be a positive number"),
        ({"spacing_mm": (1.8, np.inf)}, "spacing_mm must be a positive number"),
        ({"rr_ms": -1.0}, "rr_ms must be a positive number"),
        ({"rr_ms": np.nan}, "rr_ms must be a positive number"),
        ({"pixels": UINT8.astype(complex)}, "real numbers, given complex128"),
        ({"pixels": UINT8.astype(object)}, "real numbers, given object"),
        ({"times_ms": np.arange(3)}, "3 times for 4 frames"),
        ({"times_ms": np.array([0.0, 20.0, 10.0, 30.0])}, "times_ms must rise"),
        ({"times_ms": np.array([0.0, 20.0, np.nan, 30.0])}, "times_ms must rise"),
        ({"orientation": np.zeros(6)}, "span a plane"),
        ({"orientation": np.full(6, np.nan)}, "span a plane"),
        ({"position": np.array([0.0, np.nan, 0.0])}, "three finite numbers"),
        ({"view": "4CH"}, "view must be one of 4ch"),
        ({"phenotypes": np.zeros(81)}, r"shape \(82,\), given \(81,\)"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Cine(**{"pixels": UINT8, "frame_time_ms": 20.0, **changes})


def test_scanner_units_and_oblong_pixels_are_not_taken_for_prepared_ones():
    scan = Cine(pixels=1000.0 * UINT8, frame_time_ms=20, scanner_units=True, spacing_mm=(1.5, 1.25), origin="scan 7")
    with pytest.raises(ValueError, match="scan 7 is in the scanner's units; prepare it first"):
        _ = scan.unit
    with pytest.raises(ValueError, match="scan 7 has pixels of"):
        _ = scan.pixel_size_mm
