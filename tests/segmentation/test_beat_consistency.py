"""Chambers keep their names over the beat, and are one region each; labels that agree are left alone."""

import numpy as np
import pytest
import torch

from cpgg_hf.measure import measure_labels
from cpgg_hf.phantom import LABELS
from cpgg_hf.phenotypes import phenotype_index
from cpgg_hf.segmentation.beat_consistency import make_consistent
from cpgg_hf.segmentation.phantom_frames import coverage, render_subject

LEFT_AND_RIGHT = [(LABELS["LV cavity"], LABELS["RV cavity"]), (LABELS["LA"], LABELS["RA"])]


@pytest.fixture(scope="module")
def heart():
    return render_subject("test", 1)


@pytest.fixture(scope="module")
def exact(heart):
    return coverage(heart.outlines, np.arange(50))


def exchanged(exact, frames):
    """Left is called right and right left in some frames."""
    given = exact.copy()
    for left, right in LEFT_AND_RIGHT:
        given[frames, left], given[frames, right] = exact[frames, right], exact[frames, left]
    return given


def test_labels_that_agree_are_not_changed(exact):
    found, disputed = make_consistent(exact)
    assert disputed == 0
    np.testing.assert_array_equal(found, exact)


def test_sides_that_are_exchanged_in_late_systole_are_put_right(heart, exact):
    given = exchanged(exact, slice(18, 30))
    found, disputed = make_consistent(given)
    np.testing.assert_allclose(found, exact, atol=0.01)
    assert 0.15 < disputed < 0.3  # of the pixels, as of the frames
    index = phenotype_index("LVEF")
    volumes = [measure_labels(torch.from_numpy(labels), 1.8, 18.0) for labels in (given, found)]
    assert abs(volumes[0].phenotypes[index] - heart.phenotypes[index]) > 5
    assert volumes[1].phenotypes[index] == pytest.approx(heart.phenotypes[index], abs=0.6)


def test_a_patch_with_another_chambers_name_is_disputed(exact):
    given = exact.copy()
    lv, rv = LEFT_AND_RIGHT[0]
    rows, columns = (index.mean().round().astype(int) for index in np.nonzero(exact[20, lv] > 0.9))
    patch = (20, lv, slice(rows - 2, rows + 3), slice(columns - 2, columns + 3))
    given[(20, rv, *patch[2:])] = given[patch]
    given[patch] = 0
    np.testing.assert_allclose(make_consistent(given)[0], exact, atol=1e-6)


def test_what_lies_apart_from_a_chamber_is_background(exact):
    given = exact.copy()
    given[7, :, :5, -5:] = np.eye(len(LABELS))[LABELS["RA"]][:, None, None]
    found, _ = make_consistent(given)
    assert (found[7, LABELS["background"], :5, -5:] == 1).all()
    np.testing.assert_array_equal(found[:, :, 10:], exact[:, :, 10:])


@pytest.mark.parametrize(("radius", "kept"), [(2, True), (7, False)])
def test_the_aorta_is_one_vessel_or_none(exact, radius, kept):
    aorta = LABELS["descending aorta"]
    rows, columns = np.mgrid[:96, :96]
    given = exact.copy()
    vessel = np.hypot(rows - 8, columns - 8) < radius
    given[:, :, vessel] = np.eye(len(LABELS))[aorta][:, None]
    found, _ = make_consistent(given)
    assert found[:, aorta, vessel].max() == 0
    assert (found[:, aorta].sum() > 0) == kept


def test_mirrored_labels_give_the_mirrored_result(exact):
    given = exchanged(exact, slice(18, 30)) + np.random.default_rng(0).uniform(0, 0.3, exact.shape).astype(np.float32)
    given[12, :, 3:7, 4:9] = np.eye(len(LABELS))[LABELS["LA"]][:, None, None]
    for axes in ((2,), (3,), (2, 3)):
        mirrored, disputed = make_consistent(np.flip(given, axes))
        np.testing.assert_array_equal(np.flip(mirrored, axes), make_consistent(given)[0])
        assert disputed == make_consistent(given)[1]
