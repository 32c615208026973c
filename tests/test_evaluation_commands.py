"""What `cpgg measure` reports: values that hearts have, and a sentence for the others."""

import numpy as np

from cpgg_hf.commands.evaluation import plausible
from cpgg_hf.phenotypes import PHENOTYPES, phenotype_index


def test_what_no_heart_has_is_left_out_and_said():
    row = np.full(82, np.nan)
    row[phenotype_index("LVEF")], row[phenotype_index("RVEF")] = 61.0, -78.8
    row[phenotype_index("RVEDV")] = 162.0  # of a chamber that was not segmented well
    values, doubts = plausible(row)
    assert values == {"LVEF": 61.0}
    (doubt,) = doubts
    low = PHENOTYPES[phenotype_index("RVEF")].minimum
    assert doubt.startswith(f"RVEF came out as -78.8 %, hearts have {low:g} to")
