"""One filter for every command: what cannot be trusted is left out with its dependants, and each is named."""

import numpy as np
import pytest
import torch

from cpgg_hf.measure import measure_labels
from cpgg_hf.measure.formulas import CineMeasurement
from cpgg_hf.measure.plausibility import disagreements, plausible
from cpgg_hf.phantom import LABELS
from cpgg_hf.phenotypes import NAMES, PHENOTYPES, phenotype_index

MEASURABLE = [phenotype.short_name for phenotype in PHENOTYPES if phenotype.measurable]
WALLS_AND_STRAINS = [name for name in MEASURABLE if name.startswith(("WT_", "Ell_"))]


def measurement(not_found=(), jumps=None, **values) -> CineMeasurement:
    """The population's means, but for some values."""
    row = np.array([phenotype.mean if phenotype.measurable else np.nan for phenotype in PHENOTYPES])
    for name, value in values.items():
        row[phenotype_index(name)] = value
    curves = {chamber: np.full(50, 60.0) for chamber in ("LV", "RV", "LA", "RA")}
    return CineMeasurement(row, 0, 18, curves, np.ones(50), not_found, jumps or {})


def left_out(measured) -> set:
    """The values that were measured and are not trusted; each must be named in a note."""
    found = plausible(measured)
    gone = set(np.array(NAMES)[np.isfinite(measured.phenotypes) & np.isnan(found.phenotypes)])
    for name in gone:
        assert any(name in note.replace(",", " ").split() for note in found.notes), name
    return gone


def test_a_plausible_measurement_is_kept_without_a_note():
    measured = measurement()
    found = plausible(measured)
    np.testing.assert_array_equal(found.phenotypes, measured.phenotypes)
    assert found.notes == ()
    assert found.end_systole == 18
    assert found.volumes_ml.keys() == {"LV", "RV", "LA", "RA"}


def test_an_implausible_value_takes_its_chamber_with_it():
    measured = measurement(RVEF=-78.8)
    assert left_out(measured) == {"RVEDV", "RVESV", "RVSV", "RVEF"}
    (note,) = plausible(measured).notes
    low = PHENOTYPES[phenotype_index("RVEF")].minimum
    assert note.startswith(f"RVEF measured as -78.8 %, outside {low:g} to")
    assert plausible(measured).volumes_ml.keys() == {"LV", "LA", "RA"}


def test_a_doubted_lv_takes_walls_strains_and_end_systole_with_it():
    measured = measurement(LVESV=4.0)
    assert left_out(measured) == {
        *("LVEDV", "LVESV", "LVSV", "LVEF", "LVCO", "RVESV", "RVSV", "RVEF"),
        *WALLS_AND_STRAINS,
    }
    assert plausible(measured).end_systole is None
    assert plausible(measured).volumes_ml.keys() == {"RV", "LA", "RA"}


def test_of_a_wall_only_the_implausible_segment_is_left_out():
    assert left_out(measurement(WT_AHA_6=0.07)) == {"WT_AHA_6"}


def test_a_global_value_goes_with_all_its_segments():
    strains = {f"Ell_{segment}": 20.0 for segment in range(1, 7)}
    assert left_out(measurement(**strains)) == {*strains, "Ell_Global"}
    del strains["Ell_4"]
    assert left_out(measurement(**strains)) == set(strains)


def test_an_area_that_jumps_is_named_with_its_frame():
    measured = measurement(jumps={"LA": 26})
    assert left_out(measured) == {"LAV_max", "LAV_min", "LASV", "LAEF"}
    assert plausible(measured).notes[0].startswith("the area of the LA jumps after frame 26: ")


@pytest.mark.parametrize(
    ("gone", "names"),
    [
        ("RA", {"RAV_max", "RAV_min", "RASV", "RAEF"}),
        ("LV cavity", set(MEASURABLE) - {"DAo_max_area", "DAo_min_area"}),
    ],
)
def test_what_was_not_found_is_named_with_what_depends_on_it(exact_coverage, gone, names):
    coverage = exact_coverage[0].clone()
    coverage[:, LABELS["background"]] += coverage[:, LABELS[gone]]
    coverage[:, LABELS[gone]] = 0
    (note,) = plausible(measure_labels(coverage, 1.8, 18.0)).notes
    assert note.startswith(f"not every frame shows the {gone}: ")
    assert set(note.removesuffix(" not measured.").split(": ")[1].split(", ")) == names


def test_no_phantom_jumps_but_a_misnamed_frame_does(exact_coverage):
    coverage = exact_coverage[0].clone()
    assert measure_labels(coverage, 1.8, 18.0).jumps == {}
    assert measure_labels(coverage[::5], 1.8, 90.0).jumps == {}
    lv, rv = LABELS["LV cavity"], LABELS["RV cavity"]
    coverage[20, [lv, rv]] = torch.stack([torch.zeros(96, 96), coverage[20, lv] + coverage[20, rv]])
    coverage[20, lv, :12, :12] = 1  # found, but small
    assert measure_labels(coverage, 1.8, 18.0).jumps.keys() == {"LV cavity", "RV cavity"}


def test_known_and_measured_values_that_disagree_are_named():
    known = np.full(82, np.nan)
    known[[phenotype_index("LVEDV"), phenotype_index("LVEF")]] = 150.0, 60.0
    differ = disagreements(known, measurement(LVEDV=95.0, LVEF=59.0).phenotypes)
    assert differ == {"LVEDV": "LVEDV is given as 150.0 mL but measured as 95.0; check both."}
