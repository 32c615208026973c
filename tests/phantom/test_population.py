"""The frozen population: exact identities, the table's marginals, plausible covariation, a tail of disease."""

import hashlib

import numpy as np
import pytest

from cpgg_hf.phantom import POPULATION_VERSION, disease_labels, sample_phenotypes
from cpgg_hf.phantom.population import DISEASE_SHARES
from cpgg_hf.phenotypes import NAMES, PHENOTYPES, phenotype_index, pulse_pressure


@pytest.fixture(scope="module")
def population():
    return sample_phenotypes(4000, seed=5), disease_labels(4000, seed=5)


def column(table, name):
    return table[:, phenotype_index(name)]


def test_population_is_frozen():
    rounded = np.round(sample_phenotypes(50, seed=1), 6)
    digest = hashlib.sha256(rounded.tobytes()).hexdigest()[:16]
    assert (POPULATION_VERSION, digest) == (1, "c2c0241c130bfd4c")


def test_a_row_depends_on_the_seed_and_its_index_only():
    np.testing.assert_array_equal(sample_phenotypes(3, seed=9), sample_phenotypes(200, seed=9)[:3])
    assert not np.array_equal(sample_phenotypes(3, seed=9), sample_phenotypes(3, seed=10))


@pytest.mark.parametrize(
    ("large", "small", "prefix"),
    [("LVEDV", "LVESV", "LV"), ("RVEDV", "RVESV", "RV"), ("LAV_max", "LAV_min", "LA"), ("RAV_max", "RAV_min", "RA")],
)
def test_volume_identities_hold(population, large, small, prefix):
    table, _ = population
    stroke = column(table, large) - column(table, small)
    np.testing.assert_allclose(column(table, f"{prefix}SV"), stroke, rtol=1e-12)
    np.testing.assert_allclose(column(table, f"{prefix}EF"), 100 * stroke / column(table, large), rtol=1e-12)


def test_both_aortic_distensibilities_share_one_pulse_pressure(population):
    table, _ = population
    largest, smallest = column(table, "DAo_max_area"), column(table, "DAo_min_area")
    descending = 1000 * (largest - smallest) / (smallest * column(table, "DAo_distensibility"))
    np.testing.assert_allclose(pulse_pressure(table), descending, rtol=1e-9)


def test_every_value_is_plausible(population):
    table, _ = population
    for index, phenotype in enumerate(PHENOTYPES):
        assert table[:, index].min() >= phenotype.minimum, phenotype.short_name
        assert table[:, index].max() <= phenotype.maximum, phenotype.short_name


@pytest.mark.parametrize("name", NAMES)
def test_healthy_part_has_the_tables_mean_and_sd(population, name):
    table, groups = population
    values = column(table[groups == "healthy"], name)
    phenotype = PHENOTYPES[phenotype_index(name)]
    assert abs(values.mean() - phenotype.mean) < 0.35 * phenotype.sd
    assert 0.7 < values.std() / phenotype.sd < 1.3


def test_disease_tail_has_its_share_and_its_signs(population):
    table, groups = population
    for name, share in DISEASE_SHARES.items():
        assert abs((groups == name).mean() - share) < 0.015
    assert column(table[groups == "dilated"], "LVEDV").mean() > 200
    assert column(table[groups == "failing"], "LVEF").mean() < 45
    assert column(table[groups == "hypertrophic"], "WT_AHA_9").mean() > 10
    assert column(table[groups == "right_overload"], "RVEF").mean() < 45


def test_plausible_covariation(population):
    table, groups = population
    healthy = table[groups == "healthy"]

    def correlation(a, b):
        return np.corrcoef(column(healthy, a), column(healthy, b))[0, 1]

    assert correlation("LVSV", "RVSV") > 0.9
    assert correlation("LVEDV", "LVM") > 0.5
    assert correlation("LVEF", "Ell_Global") < -0.3
    assert correlation("Ecc_Global", "Ecc_AHA_4") > 0.3
