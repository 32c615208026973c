import numpy as np
import pytest

from cpgg_hf.phenotypes import PHENOTYPES, as_array, complete_identities, enforce_identities, identity_residuals
from cpgg_hf.phenotypes.coordinates import (
    all_charts,
    chart_for,
    from_chart,
    from_unbounded,
    to_coordinates,
    to_unbounded,
)

MEANS = np.array([phenotype.mean for phenotype in PHENOTYPES])


@pytest.fixture(scope="module")
def rows():
    return enforce_identities(MEANS * np.random.default_rng(1).uniform(0.96, 1.04, (20, 82)))


def test_every_chart_has_73_coordinates_that_determine_all_82_phenotypes(rows):
    coordinates = to_coordinates(rows)
    for chart in list(all_charts())[::37]:
        assert len(set(chart)) == 73
        inside = np.full_like(coordinates, np.nan)
        inside[:, chart] = coordinates[:, chart]
        np.testing.assert_allclose(from_chart(inside), rows, rtol=1e-11)


def test_unbounded_coordinates_can_be_undone(rows):
    coordinates = to_coordinates(rows)
    np.testing.assert_allclose(from_unbounded(to_unbounded(coordinates)), coordinates, rtol=1e-12)


def test_any_point_of_a_chart_is_a_possible_heart(rows):
    unbounded = to_unbounded(to_coordinates(rows))
    scattered = from_unbounded(unbounded + np.random.default_rng(2).normal(0, 2, unbounded.shape))
    inside = np.full_like(scattered, np.nan)
    chart = next(all_charts())
    inside[:, chart] = scattered[:, chart]
    hearts = from_chart(inside)
    for largest, smallest in [(0, 1), (6, 7), (10, 11), (14, 15), (18, 19), (21, 22)]:
        assert np.all(hearts[:, largest] > hearts[:, smallest])
        assert np.all(hearts[:, smallest] > 0)
    assert np.abs(identity_residuals(hearts)).max() == 0


@pytest.mark.parametrize(
    "names",
    [
        [], ["LVEF"], ["LVESV"], ["LVSV", "RVESV"], ["LVEDV", "LVESV", "LAV_min"], ["AAo_distensibility"],
        ["DAo_distensibility"], ["AAo_distensibility", "DAo_distensibility"], ["DAo_max_area"],
        ["DAo_max_area", "DAo_min_area", "DAo_distensibility"], ["AAo_max_area", "AAo_min_area", "DAo_distensibility"],
        ["AAo_distensibility", "DAo_max_area", "DAo_min_area", "DAo_distensibility"],
        ["AAo_distensibility", "AAo_min_area", "DAo_max_area", "DAo_min_area", "DAo_distensibility"],
        ["AAo_max_area", "AAo_min_area", "AAo_distensibility", "DAo_distensibility"],
        ["AAo_max_area", "AAo_min_area", "AAo_distensibility", "DAo_max_area"],
        ["AAo_max_area", "AAo_min_area", "DAo_max_area", "DAo_min_area"],
    ],
)  # fmt: skip
def test_whatever_is_fixed_is_kept_when_the_rest_of_its_chart_is_drawn(rows, names):
    everything = dict(zip([phenotype.short_name for phenotype in PHENOTYPES], rows[0], strict=True))
    request = complete_identities(as_array({name: everything[name] for name in names}))
    chart, fixed = chart_for(request[0])
    assert chart in set(all_charts())
    coordinates = to_coordinates(rows[1:2])
    drawn = np.full((1, 85), np.nan)
    drawn[:, chart] = coordinates[:, chart]
    known = np.isfinite(fixed) & np.isfinite(drawn[0])
    drawn[0, known] = fixed[known]
    heart = from_chart(drawn)
    given = np.isfinite(request)
    np.testing.assert_allclose(heart[given], request[given], rtol=1e-12)
    free_chambers = [index for index in range(18) if not given[0, index]]
    assert np.all(np.isfinite(heart))
    assert len(free_chambers) == 0 or not np.allclose(heart[0, free_chambers], rows[0, free_chambers])
