"""A GIF or a WebP lasts as long as the beat and shows every cine."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from cpgg_hf.exports.gif import write_gif, write_webp


def frames_of(path) -> tuple[list[np.ndarray], list[int]]:
    with Image.open(path) as picture:
        frames = [(np.array(frame.convert("L")), frame.info["duration"]) for frame in ImageSequence.Iterator(picture)]
    return [frame for frame, _ in frames], [duration for _, duration in frames]


@pytest.fixture
def cine() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 12, 16), dtype=np.uint8)


@pytest.mark.parametrize("frame_time_ms", [12.0, 17.5, 20.0, 26.0, 33.0])
def test_a_beat_lasts_as_long_as_it_should(tmp_path, cine, frame_time_ms):
    _, durations = frames_of(write_gif(tmp_path / "cine.gif", cine, frame_time_ms))
    assert abs(sum(durations) - 50 * frame_time_ms) <= 20
    assert min(durations) >= 20  # viewers slow faster frames down


def test_frames_are_shown_unchanged(tmp_path, cine):
    frames, _ = frames_of(write_gif(tmp_path / "cine.gif", cine, 20.0, scale=2))
    assert len(frames) == 50
    assert np.array_equal(frames[7][::2, ::2], cine[7])


@pytest.mark.parametrize("frame_time_ms", [12.0, 17.5, 33.3])
def test_webp_keeps_every_value_and_the_beats_length(tmp_path, cine, frame_time_ms):
    frames, durations = frames_of(write_webp(tmp_path / "cine.webp", cine, frame_time_ms, scale=2))
    assert abs(sum(durations) - 50 * frame_time_ms) <= 20
    for index in (0, 7, len(frames) - 1):
        shown = int((sum(durations[:index]) + 0.51) / frame_time_ms)
        assert np.array_equal(frames[index][::2, ::2], cine[shown])


def test_several_cines_stand_side_by_side(tmp_path, cine):
    floats = cine / 255.0
    frames, _ = frames_of(write_gif(tmp_path / "a.gif", [floats, 1 - floats, floats], columns=2, scale=1))
    assert frames[0].shape == (12 + 2 + 12, 16 + 2 + 16)
    assert np.array_equal(frames[3][:12, :16], cine[3])
    assert np.array_equal(frames[3][:12, 18:], 255 - cine[3])
    assert np.array_equal(frames[3][14:, :16], cine[3])
    assert not frames[3][14:, 18:].any()


def test_what_is_no_cine_is_refused(tmp_path, cine):
    with pytest.raises(ValueError, match="positive frame time"):
        write_gif(tmp_path / "a.gif", cine, 0.0)
    assert list(tmp_path.iterdir()) == []
