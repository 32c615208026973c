import json

import numpy as np
import pytest

from cpgg_hf.metrics import compare_distributions
from cpgg_hf.phenotypes import PHENOTYPES, phenotype_index

MEANS, SDS = (np.array([getattr(p, key) for p in PHENOTYPES]) for key in ("mean", "sd"))


def sample(num_samples, seed):
    return MEANS + SDS * np.random.default_rng(seed).normal(size=(num_samples, 82))


def test_same_population_lies_close_and_a_shift_of_one_sd_does_not():
    reference, generated = sample(3000, 0), sample(3000, 1)
    generated[:, phenotype_index("LVEF")] += SDS[phenotype_index("LVEF")]
    result = compare_distributions(reference, generated)
    # Two normals one sd apart: 2 Phi(1/2) - 1 = 0.383.
    assert result.ks_distance["LVEF"] == pytest.approx(0.383, abs=0.03)
    assert result.ks_distance["LVEDV"] < 0.05
    assert result.max_ks_distance == result.ks_distance["LVEF"]
    assert (result.num_reference, result.num_generated, result.num_pairs) == (3000, 3000, 82 * 81 // 2)


def test_a_lost_correlation_shows_in_its_pair():
    reference, generated = sample(2000, 0), sample(2000, 1)
    reference[:, 1] = MEANS[1] + SDS[1] * (reference[:, 0] - MEANS[0]) / SDS[0]
    result = compare_distributions(reference, generated)
    assert result.max_correlation_difference == pytest.approx(1.0, abs=0.1)
    assert result.mean_correlation_difference == pytest.approx(np.sqrt(2 / 2000) * np.sqrt(2 / np.pi), rel=0.15)


def test_missing_and_constant_phenotypes_are_left_out_and_said():
    reference, generated = sample(100, 0), sample(100, 1)
    reference[:, 5] = np.nan
    generated[:, 7] = MEANS[7]
    result = compare_distributions(reference, generated)
    assert np.isnan(result.ks_distance[PHENOTYPES[5].short_name])
    assert result.num_pairs == 80 * 79 // 2
    assert json.loads(json.dumps(result.to_dict()))["ks_distance"][PHENOTYPES[5].short_name] is None


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="2 reference and 50 generated"):
        compare_distributions(sample(2, 0), sample(50, 1))
