"""A GIF or a WebP lasts as long as the beat and shows every cine."""

import warnings

import numpy as np
import pytest
from PIL import Image, ImageSequence

from cpgg_hf.cine import Cine
from cpgg_hf.exports.gif import write_gif
from cpgg_hf.exports.webp import write_webp


def frames_of(path) -> tuple[list[np.ndarray], list[int]]:
    with Image.open(path) as picture:
        frames = [(np.array(frame.convert("L")), frame.info["duration"]) for frame in ImageSequence.Iterator(picture)]
    return [frame for frame, _ in frames], [duration for _, duration in frames]


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 12, 16), dtype=np.uint8)


@pytest.mark.parametrize(("frame_time_ms", "shown"), [(12.0, 30), (20.0, 50)])
def test_frames_that_are_left_out_are_said_and_counted(tmp_path, pixels, frame_time_ms, shown):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path = write_gif(tmp_path / "cine.gif", Cine(pixels=pixels, frame_time_ms=frame_time_ms))
    assert ["frames of faster cines are left out" in str(one.message) for one in caught] == [True] * (shown < 50)
    with Image.open(path) as picture:
        assert picture.n_frames == shown
        assert picture.info["comment"].decode() == f"{shown} of 50 frames of the beat"


@pytest.mark.filterwarnings("ignore:viewers show")
@pytest.mark.parametrize("frame_time_ms", [12.0, 17.5, 20.0, 26.0, 33.0])
def test_a_beat_lasts_as_long_as_it_should(tmp_path, pixels, frame_time_ms):
    _, durations = frames_of(write_gif(tmp_path / "cine.gif", Cine(pixels=pixels, frame_time_ms=frame_time_ms)))
    assert abs(sum(durations) - 50 * frame_time_ms) <= 20
    assert min(durations) >= 20  # viewers slow faster frames down


def test_frames_are_shown_unchanged(tmp_path, pixels):
    frames, _ = frames_of(write_gif(tmp_path / "cine.gif", Cine(pixels=pixels, frame_time_ms=20.0)))
    assert len(frames) == 50
    assert np.array_equal(frames[7][::2, ::2], pixels[7])


@pytest.mark.filterwarnings("ignore:viewers show")
@pytest.mark.parametrize("frame_time_ms", [12.0, 17.5, 33.3])
def test_webp_keeps_every_value_and_the_beats_length(tmp_path, pixels, frame_time_ms):
    frames, durations = frames_of(write_webp(tmp_path / "cine.webp", Cine(pixels=pixels, frame_time_ms=frame_time_ms)))
    assert abs(sum(durations) - 50 * frame_time_ms) <= 20
    for index in (0, 7, len(frames) - 1):
        shown = int((sum(durations[:index]) + 0.51) / frame_time_ms)
        assert np.array_equal(frames[index][::2, ::2], pixels[shown])


def test_several_cines_stand_side_by_side_and_beat_together_at_their_mean_rate(tmp_path, pixels):
    bright = Cine(pixels=pixels / 255.0, frame_time_ms=30.0)
    dark = Cine(pixels=1 - pixels / 255.0, frame_time_ms=60.0)
    frames, durations = frames_of(write_gif(tmp_path / "a.gif", [bright, dark, bright], columns=2))
    frames = [frame[::2, ::2] for frame in frames]
    assert set(durations) == {40}
    assert frames[0].shape == (12 + 2 + 12, 16 + 2 + 16)
    assert np.array_equal(frames[3][:12, :16], pixels[3])
    assert np.array_equal(frames[3][:12, 18:], 255 - pixels[3])
    assert np.array_equal(frames[3][14:, :16], pixels[3])
    assert not frames[3][14:, 18:].any()


def test_cines_of_different_shapes_are_refused(tmp_path, pixels):
    cines = [Cine(pixels=pixels[:length], frame_time_ms=20.0) for length in (50, 49)]
    with pytest.raises(ValueError, match="expected cines of one shape"):
        write_gif(tmp_path / "a.gif", cines)
    assert list(tmp_path.iterdir()) == []
