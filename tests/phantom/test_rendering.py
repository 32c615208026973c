"""What a user relies on in a phantom cine: format, determinism, timing, contrast, refusals."""

import hashlib

import numpy as np
import pytest

from cpgg_hf.errors import PhenotypeError
from cpgg_hf.phantom import LABELS, RENDERER_VERSION, SCANNER_3T, render, sample_phenotypes
from cpgg_hf.phantom.scanner import TISSUES_3T, bssfp_signal
from cpgg_hf.phenotypes import phenotype_index

SUBJECT = sample_phenotypes(1, seed=4)[0]


@pytest.fixture(scope="module")
def heart():
    return render(SUBJECT, seed=4)


def test_format(heart):
    assert heart.cine.pixels.shape == heart.labels.shape == (50, 96, 96)
    assert heart.cine.pixels.dtype == heart.labels.dtype == np.uint8
    assert set(np.unique(heart.labels)) == set(LABELS.values())
    assert heart.cine.pixel_size_mm == 1.8


def test_same_seed_same_bytes_other_seed_other_picture(heart):
    np.testing.assert_array_equal(render(SUBJECT, seed=4).cine.pixels, heart.cine.pixels)
    assert not np.array_equal(render(SUBJECT, seed=5).cine.pixels, heart.cine.pixels)


def test_renderer_is_frozen():
    """Labels are exact geometry, so they must not move between machines; the cine's noise may round."""
    labels = render(SUBJECT, seed=4).labels
    digest = hashlib.sha256(np.ascontiguousarray(labels[::7, ::3, ::3])).hexdigest()[:16]
    assert (RENDERER_VERSION, digest) == (1, "ebbe596fca435c30")


def test_frame_time_follows_the_heart_rate(heart):
    stroke, output = (SUBJECT[phenotype_index(name)] for name in ("LVSV", "LVCO"))
    assert heart.cine.frame_time_ms * 50 == pytest.approx(60000 / (1000 * output / stroke))


def test_chambers_are_bright_and_walls_dark_as_in_bssfp(heart):
    def level(name):
        return heart.cine.pixels[heart.labels == LABELS[name]].mean()

    for chamber in ("LV cavity", "RV cavity", "LA", "RA"):
        assert level(chamber) > 2 * level("LV myocardium")


def test_another_scanner_shows_the_same_heart_with_its_own_contrast_and_shading(heart):
    other = render(SUBJECT, seed=4, scanner=SCANNER_3T)
    np.testing.assert_array_equal(other.labels, heart.labels)

    def ratio(cine):
        """Blood over myocardium, in one frame's left ventricle: what shading hardly touches."""
        cavity, wall = (heart.labels[0] == LABELS[name] for name in ("LV cavity", "LV myocardium"))
        return np.median(cine[0][cavity]) / np.median(cine[0][wall])

    angle = np.deg2rad(40.0)
    blood, myocardium = (bssfp_signal(*TISSUES_3T[name], angle) for name in ("blood", "myocardium"))
    assert ratio(other.cine.pixels) < ratio(heart.cine.pixels)
    assert ratio(other.cine.pixels) == pytest.approx(blood / myocardium, rel=0.25)
    # Over the 1.5 T picture of the same heart, the shading brightens the upper right and darkens the lower left.
    aorta, apex = (heart.labels[0] == LABELS[name] for name in ("descending aorta", "RV cavity"))
    change = other.cine.pixels[0].astype(float) / np.maximum(heart.cine.pixels[0], 1)
    assert change[aorta].mean() < change[apex].mean()


def test_bssfp_signal_against_the_small_flip_angle_and_the_optimal_flip_angle():
    """At TR << T2: S -> PD sin(alpha) T2 / T1-weighted limit; the maximum is PD / 2 sqrt(T2 / T1) at the optimum."""
    t1, t2 = 1000.0, 50.0
    optimum = np.arccos((t1 / t2 - 1) / (t1 / t2 + 1))
    assert bssfp_signal(t1, t2, 1.0, optimum) == pytest.approx(0.5 * np.sqrt(t2 / t1))
    assert bssfp_signal(t1, t2, 1.0, optimum * 0.9) < bssfp_signal(t1, t2, 1.0, optimum)


def test_the_heart_moves_smoothly_over_the_seam_of_the_cycle(heart):
    frames = heart.cine.pixels.astype(np.float32)
    steps = np.abs(np.roll(frames, -1, axis=0) - frames).mean(axis=(1, 2))
    assert steps[-1] < 2.0 * np.median(steps)


def test_no_heart_leaves_the_field():
    """Hearts of all sizes lie on the grid with room to spare; at most a rare very large one touches its edge."""
    touching = 0
    for index, subject in enumerate(sample_phenotypes(24, seed=21)):
        labels = render(subject, seed=index).labels
        inner = labels[:, 1:-1, 1:-1]
        touching += int((labels > 0).sum() > (inner > 0).sum())
    assert touching <= 1


def test_missing_and_misshapen_phenotypes_are_refused():
    incomplete = SUBJECT.copy()
    incomplete[3] = np.nan
    with pytest.raises(PhenotypeError, match="LVEF"):
        render(incomplete, seed=0)
    with pytest.raises(PhenotypeError, match=r"\(81,\)"):
        render(SUBJECT[:81], seed=0)
