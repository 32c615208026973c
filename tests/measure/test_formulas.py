"""Exact labels in, the phantom's phenotypes out."""

import numpy as np
import pytest
import torch

from cpgg_hf.measure import measure_labels
from cpgg_hf.phantom import LABELS
from cpgg_hf.phenotypes import NAMES, PHENOTYPES, identity_residuals, phenotype_index

VOLUMES = ("LVEDV", "LVESV", "RVEDV", "RVESV", "LAV_max", "LAV_min", "RAV_max", "RAV_min")
FRACTIONS = ("LVEF", "RVEF", "LAEF", "RAEF")
WALLS = tuple(f"WT_AHA_{k}" for k in (3, 9, 14, 6, 12, 16))


def of(row, names):
    return row[[phenotype_index(name) for name in names]]


@pytest.fixture(scope="module")
def measured(subjects, exact_coverage):
    return [
        measure_labels(coverage, subject.cine.pixel_size_mm, subject.cine.frame_time_ms)
        for subject, coverage in zip(subjects, exact_coverage, strict=True)
    ]


def test_exact_labels_give_the_true_phenotypes(subjects, measured):
    for subject, result in zip(subjects, measured, strict=True):
        truth, found = subject.phenotypes, result.phenotypes
        np.testing.assert_allclose(of(found, VOLUMES), of(truth, VOLUMES), rtol=0.05)
        np.testing.assert_allclose(of(found, ("LVEDV", "LVESV")), of(truth, ("LVEDV", "LVESV")), rtol=0.015)
        np.testing.assert_allclose(of(found, FRACTIONS), of(truth, FRACTIONS), atol=3.0)
        np.testing.assert_allclose(of(found, ("LVEF",)), of(truth, ("LVEF",)), atol=0.6)
        np.testing.assert_allclose(of(found, ("LVCO",)), of(truth, ("LVCO",)), rtol=0.02)
        np.testing.assert_allclose(of(found, WALLS), of(truth, WALLS), atol=0.25)
        np.testing.assert_allclose(of(found, ("Ell_Global",)), of(truth, ("Ell_Global",)), atol=0.8)
        areas = ("DAo_max_area", "DAo_min_area")
        np.testing.assert_allclose(of(found, areas), of(truth, areas), rtol=0.015)


def test_pixel_labels_without_partial_volume_will_do(subjects):
    for subject in subjects:
        hard = torch.nn.functional.one_hot(torch.from_numpy(subject.labels).long(), len(LABELS)).permute(0, 3, 1, 2)
        found = measure_labels(hard, subject.cine.pixel_size_mm, subject.cine.frame_time_ms).phenotypes
        np.testing.assert_allclose(of(found, VOLUMES), of(subject.phenotypes, VOLUMES), rtol=0.06)
        np.testing.assert_allclose(of(found, WALLS), of(subject.phenotypes, WALLS), atol=0.8)


def test_end_systole_is_the_phantoms(subjects, measured):
    assert [result.end_diastole for result in measured] == [0] * len(subjects)
    assert all(abs(r.end_systole - s.end_systole) <= 1 for r, s in zip(measured, subjects, strict=True))


def test_what_a_four_chamber_view_does_not_show_is_nan_and_the_rest_is_not(measured):
    visible = [phenotype.short_name for phenotype in PHENOTYPES if phenotype.measurable]
    for result in measured:
        assert sorted(np.array(NAMES)[~np.isnan(result.phenotypes)]) == sorted(visible)


def test_identities_hold_exactly(measured):
    residuals = identity_residuals(np.stack([result.phenotypes for result in measured]))
    np.testing.assert_array_equal(residuals[:, :8], 0.0)
    assert np.isnan(residuals[:, 8]).all()  # the ninth needs a pulse pressure, which no picture shows


def test_curves_over_the_cycle_go_with_the_phenotypes(measured):
    for result in measured:
        for chamber, largest, smallest in (("LA", "LAV_max", "LAV_min"), ("RA", "RAV_max", "RAV_min")):
            curve = result.volumes_ml[chamber]
            assert curve.shape == (50,)
            assert [curve.max(), curve.min()] == list(of(result.phenotypes, (largest, smallest)))
        assert result.volumes_ml["LV"].argmin() == result.end_systole


def turned(coverage):
    return torch.rot90(coverage, 1, dims=(2, 3))


def mirrored(coverage):
    return coverage.flip(3)


def shifted(coverage):
    return torch.roll(coverage, (2, -1), dims=(2, 3))


@pytest.mark.parametrize("move", [turned, mirrored, shifted])
def test_where_and_which_way_the_heart_lies_does_not_matter(exact_coverage, measured, move):
    moved = measure_labels(move(exact_coverage[0]), 1.8, 15.0).phenotypes
    still = measure_labels(exact_coverage[0], 1.8, 15.0).phenotypes
    np.testing.assert_allclose(of(moved, VOLUMES), of(still, VOLUMES), rtol=0.01)
    np.testing.assert_allclose(of(moved, WALLS), of(still, WALLS), atol=0.1)


def test_units_follow_pixel_size_and_frame_time(exact_coverage):
    full = measure_labels(exact_coverage[0], 1.8, 18.0).phenotypes
    half = measure_labels(exact_coverage[0], 0.9, 9.0).phenotypes
    np.testing.assert_allclose(of(half, VOLUMES), of(full, VOLUMES) / 8, rtol=0.02)
    np.testing.assert_allclose(of(half, WALLS), of(full, WALLS) / 2, rtol=0.05)
    np.testing.assert_allclose(of(half, ("LVCO",)), of(full, ("LVCO",)) / 4, rtol=0.03)


@pytest.mark.parametrize(
    ("gone", "unknown", "known"),
    [
        ("RA", ("RAV_max", "RAEF"), ("LVEDV", "RVEDV", "LAV_max", "WT_AHA_9")),
        ("descending aorta", ("DAo_max_area",), ("LVEDV", "RAV_max")),
        ("LV cavity", ("LVEDV", "LVEF", "WT_AHA_9", "Ell_Global"), ("DAo_max_area",)),
        ("LV myocardium", ("WT_AHA_3", "WT_AHA_16"), ("LVEDV", "LVEF", "RVEDV")),
    ],
)
def test_a_structure_that_is_not_found_is_nan(exact_coverage, gone, unknown, known):
    coverage = exact_coverage[0].clone()
    coverage[:, LABELS["background"]] += coverage[:, LABELS[gone]]
    coverage[:, LABELS[gone]] = 0
    found = measure_labels(coverage, 1.8, 18.0).phenotypes
    assert np.isnan(of(found, unknown)).all()
    assert np.isfinite(of(found, known)).all()


def test_septal_and_lateral_strains_are_those_of_their_own_walls(subjects, measured):
    for subject, result in zip(subjects, measured, strict=True):
        expected, found = (
            of(row, ("Ell_1", "Ell_2", "Ell_3")).mean() - of(row, ("Ell_4", "Ell_5", "Ell_6")).mean()
            for row in (subject.phenotypes, result.phenotypes)
        )
        assert found == pytest.approx(expected, abs=1.6)
