import itertools

import numpy as np
import pytest

from cpgg_hf.errors import PhenotypeError
from cpgg_hf.phenotypes import (
    DERIVED_INDICES,
    NAMES,
    PHENOTYPES,
    as_array,
    complete_identities,
    enforce_identities,
    heart_rate,
    identity_residuals,
    pulse_pressure,
)

MEANS = np.array([[phenotype.mean for phenotype in PHENOTYPES]])
CONSISTENT = {
    "LVEDV": 150.0, "LVESV": 60.0, "LVSV": 90.0, "LVEF": 60.0, "LVCO": 6.3,
    "LAV_max": 80.0, "LAV_min": 30.0, "LASV": 50.0, "LAEF": 62.5,
    "AAo_max_area": 880.0, "AAo_min_area": 800.0, "AAo_distensibility": 2.0,
    "DAo_max_area": 450.0, "DAo_min_area": 400.0, "DAo_distensibility": 2.5,
}  # fmt: skip


def _value(array, name):
    return array[0, NAMES.index(name)]


def test_73_phenotypes_are_free_and_nine_derived():
    assert len(NAMES) - len(DERIVED_INDICES) == 73
    assert [NAMES[index] for index in DERIVED_INDICES] == [
        "LVSV", "LVEF", "RVSV", "RVEF", "LASV", "LAEF", "RASV", "RAEF", "DAo_distensibility",
    ]  # fmt: skip


def test_heart_rate_and_pulse_pressure_are_those_of_the_definitions():
    array = as_array(CONSISTENT)
    assert heart_rate(array)[0] == pytest.approx(70.0)
    assert pulse_pressure(array)[0] == pytest.approx(50.0)
    array[0, NAMES.index("AAo_distensibility")] = np.nan
    assert pulse_pressure(array)[0] == pytest.approx(50.0)


def test_enforced_identities_hold_to_float64_rounding():
    rows = enforce_identities(MEANS * np.random.default_rng(0).uniform(0.9, 1.1, (100, 82)))
    column = {name: rows[:, index] for index, name in enumerate(NAMES)}
    for chamber, largest, smallest in [
        ("LV", "LVEDV", "LVESV"), ("RV", "RVEDV", "RVESV"), ("LA", "LAV_max", "LAV_min"), ("RA", "RAV_max", "RAV_min"),
    ]:  # fmt: skip
        np.testing.assert_allclose(column[f"{chamber}SV"], column[largest] - column[smallest], rtol=1e-14)
        np.testing.assert_allclose(column[f"{chamber}EF"], 100 * column[f"{chamber}SV"] / column[largest], rtol=1e-14)
    pressures = [
        (column[f"{aorta}_max_area"] - column[f"{aorta}_min_area"])
        / (column[f"{aorta}_min_area"] * column[f"{aorta}_distensibility"])
        for aorta in ("AAo", "DAo")
    ]
    np.testing.assert_allclose(*pressures, rtol=1e-13)
    assert np.abs(identity_residuals(rows)).max() == 0


@pytest.mark.parametrize("given", itertools.combinations(["LVEDV", "LVESV", "LVSV", "LVEF"], 2))
def test_two_values_of_a_chamber_determine_the_other_two(given):
    array = complete_identities(as_array({name: CONSISTENT[name] for name in given}))
    for name in ("LVEDV", "LVESV", "LVSV", "LVEF"):
        assert _value(array, name) == pytest.approx(CONSISTENT[name], rel=1e-14)
    assert np.isfinite(array).sum() == 4


@pytest.mark.parametrize("missing", [name for name in CONSISTENT if "Ao_" in name])
def test_five_aortic_values_determine_the_sixth(missing):
    given = {name: value for name, value in CONSISTENT.items() if "Ao_" in name and name != missing}
    assert _value(complete_identities(as_array(given)), missing) == pytest.approx(CONSISTENT[missing], rel=1e-12)


def test_one_value_of_a_chamber_determines_nothing_else():
    assert np.isfinite(complete_identities(as_array({"LVEF": 60.0, "RVSV": 80.0}))).sum() == 2


def test_a_redundant_request_within_rounding_is_kept_as_given():
    given = {"LVEDV": 143.3, "LVESV": 58.2, "LVSV": 85.1, "LVEF": 59.4}
    array = complete_identities(as_array(given))
    assert [_value(array, name) for name in given] == list(given.values())


@pytest.mark.parametrize(
    "request_",
    [
        {"LVEDV": 150.0, "LVESV": 60.0, "LVEF": 65.0},
        {"LVESV": 60.0, "LVSV": 90.0, "LVEF": 55.0},
        {"LVEDV": 150.0, "LVESV": 60.0, "LVSV": 90.7},
        {**CONSISTENT, "DAo_distensibility": 3.1},
    ],
)
def test_an_over_determined_request_that_contradicts_itself_is_refused(request_):
    with pytest.raises(PhenotypeError, match=r"row 0: .* contradict"):
        complete_identities(as_array(request_))


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ({"LVEDV": 100.0, "LVESV": 120.0}, "LVEDV must be above LVESV"),
        ({"LVEDV": 90.0, "LVSV": 100.0}, "LVEDV must be above LVESV"),
        ({"LAV_max": 40.0, "LAV_min": 60.0}, "LAV_max must be above LAV_min"),
        ({"DAo_max_area": 400.0, "DAo_min_area": 420.0}, "DAo_max_area must be above DAo_min_area"),
        ({"LVEF": 120.0}, "between 0 and 100"),
    ],
)
def test_an_impossible_heart_is_refused(request_, named):
    with pytest.raises(PhenotypeError, match=named):
        complete_identities(as_array(request_))
