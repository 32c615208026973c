import numpy as np
import pandas as pd
import pytest

from cpgg_hf.metrics import image_statistics, share_within_reference_range
from cpgg_hf.metrics.image_statistics import face_jump, frame_jitter, gradient_energy


def test_gradient_energy_of_a_ramp():
    ramp = np.broadcast_to(0.01 * np.arange(96.0), (50, 96, 96))
    assert gradient_energy(ramp) == pytest.approx(1e-4)


def test_jitter_ignores_steady_change_and_sees_shaking():
    steady = np.broadcast_to(0.01 * np.arange(50.0)[:, None, None], (50, 8, 8))
    assert frame_jitter(steady) == pytest.approx(0.0, abs=1e-12)
    shaking = steady + 0.1 * (np.arange(50)[:, None, None] % 2)
    assert frame_jitter(shaking) == pytest.approx(0.2)  # |0.1 - 2 x 0 + 0.1|


def test_jump_across_token_faces_is_exact_on_a_checkerboard_of_tokens():
    # A ramp of 0.001 a pixel, and every second token 0.1 higher: faces jump by 0.101 or 0.099, the rest by 0.001.
    t, y, x = np.meshgrid(np.arange(50), np.arange(96), np.arange(96), indexing="ij")
    tokens = (t // 10 + y // 16 + x // 16) % 2
    cine = 0.1 * tokens + 0.001 * (t + y + x)
    # Up and down steps alternate over the tokens, so a face is 0.1 on average (5 faces of 6 tokens cancel exactly).
    assert face_jump(cine, (1, 2), 16) == pytest.approx(0.1 / 0.001, rel=1e-6)
    assert face_jump(cine, (0,), 10) == pytest.approx(0.1 / 0.001, rel=1e-6)
    # Shifted by half a token, no face lies where it is looked for.
    shifted = np.roll(0.1 * tokens, (5, 8, 8), axis=(0, 1, 2)) + 0.001 * (t + y + x)
    assert face_jump(shifted, (1, 2), 16) < 0.2
    assert face_jump(shifted, (0,), 10) < 0.2


def test_no_seams_gives_a_ratio_of_one_in_noise_and_seams_in_one_axis_stay_there():
    rng = np.random.default_rng(0)
    noise = rng.uniform(0.3, 0.6, (50, 96, 96))
    assert face_jump(noise, (1, 2), 16) == pytest.approx(1.0, abs=0.02)
    assert face_jump(noise, (0,), 10) == pytest.approx(1.0, abs=0.02)
    in_time = noise + 0.3 * (np.arange(50)[:, None, None] // 10 % 2)
    assert face_jump(in_time, (0,), 10) > 2
    assert face_jump(in_time, (1, 2), 16) == pytest.approx(face_jump(noise, (1, 2), 16))


def test_strides_without_faces_are_refused():
    with pytest.raises(ValueError, match="face stride 96 along an axis of 96"):
        face_jump(np.zeros((50, 96, 96)), (1, 2), 96)


def test_patchworked_hearts_leave_the_reference_range_and_others_stay(small_hearts):
    reference, hearts = image_statistics(small_hearts[:120]), small_hearts[120:]
    assert (share_within_reference_range(reference, image_statistics(hearts))["share"] > 0.8).all()
    # One token of every cine comes from the next one.
    glued = hearts.copy()
    glued[:, :10, 16:32, 16:32] = np.roll(hearts, 1, axis=0)[:, :10, 16:32, 16:32]
    shares = share_within_reference_range(reference, image_statistics(glued))
    assert shares.loc["spatial_face_jump", "share"] < 0.5
    assert shares.loc["temporal_face_jump", "share"] < 0.5
    assert shares.loc["temporal_face_jump", "share_above"] > 0.5


def test_share_counts_by_hand_and_a_nan_counts_nowhere():
    reference = pd.DataFrame({"s": np.linspace(0, 100, 101)})
    generated = pd.DataFrame({"s": [5.0, 95.0, 50.0, 4.9, 95.1, 96.0, np.nan, 50.0]})
    row = share_within_reference_range(reference, generated).loc["s"]
    assert (row["low"], row["high"]) == (5.0, 95.0)
    assert (row["share"], row["share_below"], row["share_above"]) == (4 / 8, 1 / 8, 2 / 8)


def test_bytes_and_floats_agree(hearts):
    as_bytes = np.round(hearts[:2] * 255).astype(np.uint8)
    pd.testing.assert_frame_equal(image_statistics(as_bytes), image_statistics(as_bytes.astype(np.float32) / 255))
