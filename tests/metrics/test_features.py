import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cpgg_hf.metrics import FeatureSet, RandomFeatureNetwork, extract_features, frechet_distance
from cpgg_hf.metrics.features import _orthonormal_rows


@pytest.fixture(scope="module")
def network():
    return RandomFeatureNetwork()


@pytest.fixture(scope="module")
def features(small_hearts, network):
    return extract_features(small_hearts, network)


def take(features, start, stop):
    return features.take(np.arange(start, stop))


def test_the_network_is_the_same_everywhere(network):
    # Published figures stand on this hash: a change needs a new VERSION, and every figure measured again.
    assert network.identity == "e4df7c599dfa19196ffe9d5a123839c7c30c8f7d4668ce3b2d1dcafb80848caf"


def test_filters_are_orthonormal_and_all_but_the_first_blind_to_brightness():
    rows = _orthonormal_rows(np.random.RandomState(0), 16, 75, with_mean=True)
    np.testing.assert_allclose(rows @ rows.T, np.eye(16), atol=1e-3)
    np.testing.assert_allclose(rows[0], 75**-0.5, atol=1e-4)
    np.testing.assert_allclose(rows[1:].sum(axis=1), 0, atol=2e-3)


def test_features_do_not_depend_on_the_batch_or_on_uint8(hearts, network, features):
    as_bytes = np.round(hearts[:5] * 255).astype(np.uint8)
    one_by_one = extract_features((cine for cine in as_bytes), network, batch_size=1)
    together = extract_features(as_bytes.astype(np.float32) / 255, network, batch_size=3)
    assert one_by_one.values.shape == (5, 64)
    assert (one_by_one.num_frames, one_by_one.size) == (50, (96, 96))
    np.testing.assert_allclose(one_by_one.values, together.values, atol=1e-4)


def patchwork(cines, seed):
    """Each 10x16x16 token taken from one of two cines."""
    rng = np.random.default_rng(seed)
    others = cines[rng.permutation(len(cines))]
    choice = rng.integers(2, size=(len(cines), 2, 3, 3)).repeat(10, 1).repeat(16, 2).repeat(16, 3)
    return np.where(choice == 1, others, cines)


def spoilt_distance(spoil, small_hearts, network, features):
    """Frechet distance of 120 spoilt hearts to 120 others, over that of the same hearts unspoilt."""
    reference, others = take(features, 0, 120), take(features, 120, 240)
    spoilt = extract_features(spoil(small_hearts[120:]).astype(np.float32), network)
    return frechet_distance(reference, spoilt) / frechet_distance(reference, others)


def test_a_patchwork_lies_far_above_the_floor_and_mild_noise_near_it(small_hearts, network, features):
    noise = np.random.default_rng(2).normal(0, 0.005, small_hearts[120:].shape)
    assert spoilt_distance(lambda cines: patchwork(cines, seed=1), small_hearts, network, features) > 20
    assert spoilt_distance(lambda cines: (cines + noise).clip(0, 1), small_hearts, network, features) < 2


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda cines: cines[..., ::-1], id="mirrored"),
        pytest.param(lambda cines: np.roll(cines, 6, axis=1), id="wrong phase of the cycle"),
        pytest.param(lambda cines: cines[:, :1].repeat(20, axis=1), id="standing still"),
        pytest.param(lambda cines: 0.5 * (cines + cines.mean(axis=1, keepdims=True)), id="half the motion"),
        pytest.param(lambda cines: gaussian_filter(cines, (0, 0, 1.5, 1.5)), id="blurred"),
    ],
)
def test_wrong_anatomy_and_wrong_motion_show(spoil, small_hearts, network, features):
    assert spoilt_distance(spoil, small_hearts, network, features) > 3


def test_bad_cines_are_named(hearts, network):
    with pytest.raises(ValueError, match=r"cine 1: a float32 cine must lie in \[0, 1\]"):
        extract_features([hearts[0], hearts[0] * 2 - 1], network)
    with pytest.raises(ValueError, match=r"cine 0: a float64 cine must lie in \[0, 1\], given nan"):
        extract_features([np.full((50, 96, 96), np.nan)], network)
    with pytest.raises(ValueError, match=r"cine 1 has shape \(25, 96, 96\)"):
        extract_features([hearts[0], hearts[0][:25]], network)
    with pytest.raises(ValueError, match="no cines"):
        extract_features([], network)


def test_sets_from_different_networks_or_grids_do_not_mix(features):
    reference = take(features, 0, 50)
    for other in (
        FeatureSet(reference.values, "another network", 20, (48, 48)),
        FeatureSet(reference.values, reference.network, 25, (48, 48)),
        FeatureSet(reference.values, reference.network, 20, (64, 64)),
    ):
        with pytest.raises(ValueError, match="cannot be compared"):
            frechet_distance(reference, other)


def test_split_gives_disjoint_sets_by_seed(features):
    a, b = features.split(100, seed=3)
    rows = {row.tobytes() for row in a.values} | {row.tobytes() for row in b.values}
    assert len(rows) == 200
    np.testing.assert_array_equal(features.split(100, seed=3)[1].values, b.values)
    assert not np.array_equal(features.split(100, seed=4)[0].values, a.values)


def test_the_beat_is_periodic_so_filter_responses_ignore_where_it_starts(small_hearts, network):
    # A shift by the filters' total stride in time, 4 frames; layout and motion (16 features) do depend on the start.
    started_later = extract_features(np.roll(small_hearts[:2], 4, axis=1), network).values
    np.testing.assert_allclose(
        started_later[:, 16:], extract_features(small_hearts[:2], network).values[:, 16:], atol=1e-4
    )
