import numpy as np
import pytest

from cpgg_hf.errors import PhenotypeError
from cpgg_hf.phenotypes import NAMES, PHENOTYPES, phenotype_index


def test_there_are_82_phenotypes_in_the_order_of_their_fields():
    assert [phenotype.field_id for phenotype in PHENOTYPES] == list(range(24100, 24182))
    assert len(set(NAMES)) == 82
    assert (NAMES[0], NAMES[3], NAMES[40], NAMES[81]) == ("LVEDV", "LVEF", "WT_Global", "Ell_Global")


def test_every_phenotype_has_a_unit_and_a_mean_inside_its_plausible_range():
    for phenotype in PHENOTYPES:
        assert phenotype.unit in {"mL", "%", "L/min", "g", "mm", "mm2", "1e-3/mmHg"}
        assert phenotype.minimum < phenotype.mean < phenotype.maximum
        assert phenotype.sd > 0


@pytest.mark.parametrize(
    "column",
    [
        "LVEF",
        "lvef",
        " Lvef ",
        24103,
        np.int64(24103),
        "24103",
        "24103-2.0",
        "f.24103.2.0",
        "p24103_i2",
        "p24103",
        "P24103_I2",
        "participant.p24103_i2",
    ],
)
def test_a_phenotype_is_found_under_every_name_it_has_in_uk_biobank(column):
    assert phenotype_index(column) == 3


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("LVEFF", "LVEF"),
        ("WT_AHA_17", "WT_AHA_1"),
        ("LV ejection fractions", "LVEF"),
        (24199, "24181"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_valid_one(given, nearest):
    with pytest.raises(PhenotypeError, match=nearest) as caught:
        phenotype_index(given)
    assert str(given) in str(caught.value)


def test_what_needs_a_volume_or_short_axis_view_is_not_called_measurable():
    measurable = {phenotype.short_name for phenotype in PHENOTYPES if phenotype.measurable}
    assert {"LVEDV", "LVEF", "RVEDV", "LAV_max", "DAo_max_area", "WT_AHA_3", "Ell_Global"} <= measurable
    assert not measurable & {"LVM", "AAo_max_area", "DAo_distensibility", "WT_AHA_1", "WT_Global"}
    assert not [name for name in measurable if name.startswith(("Ecc", "Err"))]
