"""MP4 and npz hold the beat's frames and times."""

import sys

import av
import numpy as np
import pytest
from scipy import ndimage

from cpgg_hf.exports.mp4 import write_mp4
from cpgg_hf.exports.npz import write_npz


@pytest.fixture
def cine() -> np.ndarray:
    """A smooth pattern that moves, as hearts do; H.264 is not made for noise."""
    noise = np.random.default_rng(0).random((50, 96, 96))
    smooth = ndimage.gaussian_filter(noise, (4, 5, 5), mode="wrap")
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def test_mp4_shows_every_frame_at_its_time(tmp_path, cine):
    path = write_mp4(tmp_path / "cine.mp4", cine, 17.3, scale=2)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoded = [
            (float(frame.pts * frame.time_base), frame.to_ndarray(format="gray")) for frame in container.decode(stream)
        ]
    assert [time * 1000 for time, _ in decoded] == pytest.approx(np.arange(50) * 17.3, abs=0.02)
    frames = np.stack([frame for _, frame in decoded])
    assert frames.shape == (50, 192, 192)
    assert np.abs(frames[:, ::2, ::2] - 255 * cine).mean() < 1.5
    assert np.abs(frames[:, ::2, ::2] - 255 * cine).max() < 12


def test_odd_sizes_get_a_black_line(tmp_path, cine):
    path = write_mp4(tmp_path / "cine.mp4", cine[:, :95, :93], 20.0, scale=1)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="gray")
    assert frame.shape == (96, 94)
    assert frame[95].max() < 20


def test_without_pyav_the_extra_is_named_and_nothing_is_written(tmp_path, cine, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install 'cpgg_hf\[video\]'"):
        write_mp4(tmp_path / "cine.mp4", cine)
    assert list(tmp_path.iterdir()) == []


def test_npz_holds_the_cine_and_what_is_known_of_it(tmp_path, cine):
    phenotypes = np.arange(82.0)
    phenotypes[5] = np.nan
    path = write_npz(tmp_path / "cine.npz", cine, 17.3, 1.4, phenotypes=phenotypes, seed=2**62)
    with np.load(path) as archive:
        assert np.array_equal(archive["cine"], cine)
        assert np.array_equal(archive["phenotypes"], phenotypes, equal_nan=True)
        assert (archive["spacing_mm"], archive["frame_time_ms"], archive["seed"]) == (1.4, 17.3, 2**62)
    with np.load(write_npz(tmp_path / "unknown.npz", cine, 20.0)) as archive:
        assert np.isnan(archive["phenotypes"]).all()
        assert archive["seed"] == -1
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        write_npz(tmp_path / "cine.npy", cine, 20.0)
