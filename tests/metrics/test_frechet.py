import json

import numpy as np
import pytest
from scipy import linalg

from cpgg_hf.metrics import FeatureSet, frechet_distance, frechet_with_floor, gaussian_frechet_distance, to_plain


def feature_set(values):
    return FeatureSet(np.asarray(values, dtype=np.float64), "test", 50, (96, 96))


def gaussian(num_cines, seed, mean=0.0, sd=1.0, num_features=8):
    return feature_set(np.random.default_rng(seed).normal(mean, sd, (num_cines, num_features)))


def test_commuting_gaussians_have_the_closed_form():
    sd_a, sd_b = np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.5, 0.0])
    mean_a, mean_b = np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0, 0.0])
    # |mean difference|^2 + sum of (sd_a - sd_b)^2 = 5 + 12.25; a rotation changes nothing.
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    distance = gaussian_frechet_distance(
        rotation @ mean_a,
        rotation @ np.diag(sd_a**2) @ rotation.T,
        rotation @ mean_b,
        rotation @ np.diag(sd_b**2) @ rotation.T,
    )
    assert distance == pytest.approx(5 + 12.25, rel=1e-9)


def test_general_covariances_agree_with_the_textbook_formula():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)), 0.3 + rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6))
    covariance_a, covariance_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(covariance_a @ covariance_b).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(covariance_a + covariance_b - 2 * root)
    assert frechet_distance(feature_set(a), feature_set(b)) == pytest.approx(expected, rel=1e-8)


def test_torchmetrics_agrees():
    import torch
    from torchmetrics.image.fid import _compute_fid

    a, b = gaussian(200, 0).values, gaussian(200, 1, 0.5, 2.0).values
    moments = [torch.from_numpy(m) for s in (a, b) for m in (s.mean(0), np.cov(s, rowvar=False))]
    assert frechet_distance(feature_set(a), feature_set(b)) == pytest.approx(float(_compute_fid(*moments)), rel=1e-6)


def test_a_set_against_itself_is_zero_even_with_fewer_cines_than_features():
    few = gaussian(5, 0, num_features=64)
    assert frechet_distance(few, few) == pytest.approx(0.0, abs=1e-6)


def test_floor_and_ratio():
    reference = gaussian(2000, 0)
    alike = frechet_with_floor(gaussian(1000, 1), reference, seed=0)
    shifted = frechet_with_floor(gaussian(1000, 1, mean=0.5), reference, seed=0)
    assert 0.4 < alike.ratio < 2.5
    # Eight features half a standard deviation off: 8 x 0.25.
    assert shifted.distance == pytest.approx(2.0, rel=0.1)
    assert shifted.floor == alike.floor
    assert shifted.ratio == pytest.approx(shifted.distance / shifted.floor)


def test_result_becomes_json():
    result = frechet_with_floor(gaussian(20, 1), gaussian(40, 0), seed=7)
    read = json.loads(json.dumps(to_plain(result)))
    assert read["num_cines"] == 20
    assert (read["num_frames"], read["size"], read["network"], read["seed"]) == (50, [96, 96], "test", 7)


def test_too_few_or_unequal_sets_are_refused():
    with pytest.raises(ValueError, match="40 reference cines"):
        frechet_with_floor(gaussian(20, 1), gaussian(39, 0))
    with pytest.raises(ValueError, match="between 20 and 19 cines"):
        frechet_distance(gaussian(20, 0), gaussian(19, 1))
