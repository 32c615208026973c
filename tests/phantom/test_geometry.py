"""The outlines keep the stated volume formulas exactly, and the labels show the same areas."""

import numpy as np
import pytest
from phantom_subjects import polygon_area

from cpgg_hf.phantom import LABELS, render, sample_phenotypes
from cpgg_hf.phantom.geometry import RV_SHAPE_FACTOR
from cpgg_hf.phenotypes import phenotype_index

SUBJECTS = sample_phenotypes(12, seed=77)
PIXEL_AREA = 1.8**2


@pytest.fixture(scope="module", params=range(len(SUBJECTS)))
def subject(request):
    return render(SUBJECTS[request.param], seed=request.param)


def value(cine, name):
    return cine.phenotypes[phenotype_index(name)]


def area_length(area_mm2, length_mm):
    return 8 * area_mm2**2 / (3 * np.pi * length_mm) / 1000


def test_left_ventricle_has_the_requested_volumes(subject):
    outline, frames = subject.outlines.lv_cavity, [0, subject.end_systole]
    length = np.linalg.norm(subject.outlines.mitral.mean(axis=1) - subject.outlines.apex, axis=1)
    volumes = area_length(polygon_area(outline), length)
    np.testing.assert_allclose(volumes[frames], [value(subject, "LVEDV"), value(subject, "LVESV")], rtol=1e-6)
    assert volumes.argmin() == subject.end_systole
    assert volumes.argmax() == 0


def test_left_ventricle_shortens_by_the_longitudinal_strain(subject):
    length = np.linalg.norm(subject.outlines.mitral.mean(axis=1) - subject.outlines.apex, axis=1)
    assert 100 * (length.min() / length[0] - 1) == pytest.approx(value(subject, "Ell_Global"), rel=0.02)


@pytest.mark.parametrize(
    ("chamber", "largest", "smallest"), [("la", "LAV_max", "LAV_min"), ("ra", "RAV_max", "RAV_min")]
)
def test_atria_have_the_requested_volumes(subject, chamber, largest, smallest):
    outline = getattr(subject.outlines, chamber)
    along = (outline - subject.outlines.apex) @ subject.outlines.axis
    half = outline.shape[1] // 2
    # Roof and floor are the first and last points of each side. The tilt of the annulus shears the outline, which
    # keeps its area but moves its ends along the axis by up to a millimetre.
    length = 0.5 * (along[:, half - 1] + along[:, half] - along[:, 0] - along[:, -1])
    volumes = area_length(polygon_area(outline), length)
    expected = [value(subject, largest), value(subject, smallest)]
    np.testing.assert_allclose(volumes[[subject.end_systole, 0]], expected, rtol=0.05)


def test_right_ventricle_label_has_the_requested_volume(subject):
    along = (subject.outlines.rv_blob - subject.outlines.apex) @ subject.outlines.axis
    length = along.max(axis=1) - along.min(axis=1)
    area = (subject.labels == LABELS["RV cavity"]).sum(axis=(1, 2)) * PIXEL_AREA
    volumes = RV_SHAPE_FACTOR * area**2 / length / 1000
    expected = [value(subject, "RVEDV"), value(subject, "RVESV")]
    np.testing.assert_allclose(volumes[[0, subject.end_systole]], expected, rtol=0.05)


def test_aorta_has_the_requested_areas(subject):
    area = np.pi * subject.outlines.aorta_radius**2
    assert area.max() == pytest.approx(value(subject, "DAo_max_area"), rel=1e-6)
    assert area.min() == pytest.approx(value(subject, "DAo_min_area"), rel=1e-6)


def test_septal_wall_has_the_requested_thickness(subject):
    """Mean distance from the cavity's septal side to the epicardial outline, against the mean of the segments."""
    side = slice(0, 40)
    cavity, wall = subject.outlines.lv_cavity[0, side], subject.outlines.lv_wall[0, side]
    level = np.linspace(1, 0, 40) ** 1.6
    thickness = np.linalg.norm(wall - cavity, axis=1)
    inner = (level > 0.15) & (level < 0.95)
    mean = np.trapezoid(thickness[inner][::-1], level[inner][::-1]) / np.ptp(level[inner])
    expected = np.mean([value(subject, f"WT_AHA_{k}") for k in (3, 9, 14)])
    assert mean == pytest.approx(expected, rel=0.12)


def test_labels_agree_with_the_outlines(subject):
    for label, outline in (("LV cavity", "lv_cavity"), ("LA", "la"), ("RA", "ra")):
        drawn = (subject.labels == LABELS[label]).sum(axis=(1, 2)) * PIXEL_AREA
        np.testing.assert_allclose(drawn, polygon_area(getattr(subject.outlines, outline)), rtol=0.06)
