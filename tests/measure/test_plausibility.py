"""Implausible measurements are left out, with the reason."""

import numpy as np

from cpgg_hf.measure.plausibility import plausible
from cpgg_hf.phenotypes import PHENOTYPES, phenotype_index


def test_an_implausible_value_takes_its_chamber_with_it():
    row = np.full(82, np.nan)
    row[phenotype_index("LVEF")], row[phenotype_index("RVEF")] = 61.0, -78.8
    row[phenotype_index("RVEDV")] = 162.0  # of a chamber that was not segmented well
    values, doubts = plausible(row)
    assert values == {"LVEF": 61.0}
    doubt, _ = doubts
    low = PHENOTYPES[phenotype_index("RVEF")].minimum
    assert doubt.startswith(f"RVEF was measured as -78.8 %, outside {low:g} to")


def test_what_a_four_chamber_view_shows_but_was_not_measured_is_named():
    row = np.array([phenotype.mean for phenotype in PHENOTYPES])
    assert plausible(row)[1] == []
    row[[phenotype_index("LAV_max"), phenotype_index("AAo_max_area")]] = np.nan  # the view does not show the second
    values, (doubt,) = plausible(row)
    assert "LAV_max" not in values
    assert doubt.startswith("LAV_max: not measured")
