import numpy as np
import pytest

from cpgg_hf.phenotypes import NAMES, PHENOTYPES, enforce_identities, validate

HEALTHY = enforce_identities(np.array([[phenotype.mean for phenotype in PHENOTYPES]]))


def _kinds(report):
    return {(finding.column, finding.kind) for finding in report.violations}


def test_a_consistent_heart_has_no_findings_and_plausible_implied_values():
    report = validate(HEALTHY)
    assert report.ok
    assert not report.findings
    assert report.heart_rate[0] == pytest.approx(1000 * 5.34 / (143.3 - 58.2))
    assert report.pulse_pressure[0] == pytest.approx(1000 * (897 - 825) / (825 * 1.94))


@pytest.mark.parametrize("decimals", [0, 1, 2])
def test_rounding_is_noted_and_not_a_violation(decimals):
    # Distensibilities of 2 or 3 carry no information at 0 decimals: the other columns are rounded alone there.
    rounded = np.round(HEALTHY, decimals)
    rounded[:, 18:24] = np.round(HEALTHY[:, 18:24], max(decimals, 1))
    report = validate(rounded)
    assert report.ok, str(report)
    assert report.notes
    assert validate(rounded.astype(np.float32)).ok


@pytest.mark.parametrize("column", ["LVSV", "LVEF", "RASV", "DAo_distensibility"])
def test_a_residual_beyond_rounding_is_a_violation(column):
    table = np.round(HEALTHY, 2)
    table[0, NAMES.index(column)] *= 1.05
    assert _kinds(validate(table)) == {(column, "identity")}


def test_each_kind_of_violation_is_reported_and_the_rest_of_the_table_read():
    table = np.repeat(HEALTHY, 7, axis=0)
    table[1, NAMES.index("WT_AHA_3")] = 31.0
    table[2, NAMES.index("LVESV")] = 160.0
    table[3, NAMES.index("DAo_min_area")] = 480.0
    table[4, NAMES.index("LVCO")] = 13.5 * 1.3
    table[5, NAMES.index("LVM")] = 0.0856
    table[6, NAMES.index("AAo_distensibility")] = 0.3
    report = validate(table)
    found = {(finding.row, finding.column, finding.kind) for finding in report.violations}
    assert {
        (1, "WT_AHA_3", "range"),
        (2, "LVESV", "order"),
        (2, "LVSV", "identity"),
        (3, "DAo_min_area", "order"),
        (4, "heart_rate", "heart_rate"),
        (5, "LVM", "magnitude"),
        (6, "pulse_pressure", "pulse_pressure"),
    } <= found
    assert not [finding for finding in report.findings if finding.row == 0]
    assert "violation, row 5: LVM = 0.0856 g" in str(report)


def test_missing_values_are_no_findings():
    table = HEALTHY.copy()
    table[0, ::2] = np.nan
    assert validate(table).ok
    assert validate({"LVEF": 55.0}).ok


def test_a_chamber_that_does_not_change_is_out_of_order():
    (finding,) = [
        finding for finding in validate({"LVEDV": 150.0, "LVESV": 150.0}).findings if finding.kind == "order"
    ]
    assert (finding.column, finding.violation) == ("LVESV", True)
