"""MP4 shows the frames of a beat at their times."""

import sys

import av
import numpy as np
import pytest
from scipy import ndimage

from cpgg_hf.cine import Cine
from cpgg_hf.exports.mp4 import write_mp4


@pytest.fixture
def pixels() -> np.ndarray:
    """A smooth pattern that moves, as hearts do; H.264 is not made for noise."""
    noise = np.random.default_rng(0).random((50, 96, 96))
    smooth = ndimage.gaussian_filter(noise, (4, 5, 5), mode="wrap")
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def test_mp4_shows_every_frame_at_its_time(tmp_path, pixels):
    path = write_mp4(tmp_path / "cine.mp4", Cine(pixels=pixels, frame_time_ms=17.3))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoded = [
            (float(frame.pts * frame.time_base), frame.to_ndarray(format="gray")) for frame in container.decode(stream)
        ]
    assert [time * 1000 for time, _ in decoded] == pytest.approx(np.arange(50) * 17.3, abs=0.02)
    frames = np.stack([frame for _, frame in decoded])
    assert frames.shape == (50, 192, 192)
    assert np.abs(frames[:, ::2, ::2] - 255 * pixels).mean() < 1.5
    assert np.abs(frames[:, ::2, ::2] - 255 * pixels).max() < 12


def test_without_pyav_the_extra_is_named_and_nothing_is_written(tmp_path, pixels, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install 'cpgg_hf\[video\]'"):
        write_mp4(tmp_path / "cine.mp4", Cine(pixels=pixels, frame_time_ms=20.0))
    assert list(tmp_path.iterdir()) == []
