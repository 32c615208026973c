"""Fields for the scan segmenter: the coverage follows the picture, and contrasts are those of cines."""

import numpy as np
import pytest
import torch

from cpgg_hf.grid import SPACING_MM
from cpgg_hf.segmentation import heart_shapes
from cpgg_hf.segmentation.heart_shapes import STRUCTURES, HeartShapes, short_axis
from cpgg_hf.segmentation.random_fields import random_beats, random_fields

LV, MUSCLE = STRUCTURES.index("LV cavity"), STRUCTURES.index("LV myocardium")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hearts")


@pytest.fixture(scope="module")
def hearts(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cpgg_hf.segmentation.rendered.SUBJECTS_PER_FILE", 10)
        yield HeartShapes(folder, 10, progress=False)


@pytest.fixture(scope="module")
def fields(hearts):
    torch.manual_seed(0)
    rows = hearts[list(range(10)) * 2]
    return random_fields(rows["cine"].float() / 255, rows["coverage"].float() / 255, rows["is_phantom"])


def test_planes_that_are_no_four_chamber_view_are_among_the_hearts(hearts):
    present = hearts[list(range(10))]["coverage"].flatten(3).amax(dim=(1, 3)) > 0
    lacking = {
        heart_shapes.VIEW_OF_SUBJECT[i]: {STRUCTURES[k] for k in range(5) if not row[k]}
        for i, row in enumerate(present)
    }
    assert lacking == {"4ch": set(), "sax": {"LA", "RA"}, "2ch": {"RV cavity", "RA"}, "3ch": {"RA"}}
    assert hearts[list(range(10))]["is_phantom"].tolist() == [view == "4ch" for view in heart_shapes.VIEW_OF_SUBJECT]


def test_the_short_axis_ring_contracts_and_keeps_its_wall():
    for seed in range(5):
        area = short_axis(np.random.default_rng(seed)).sum(axis=(2, 3)) * SPACING_MM**2
        assert area[5, LV] < 0.85 * area[0, LV]
        np.testing.assert_allclose(area[:, MUSCLE], area[0, MUSCLE], rtol=0.01)


def test_blood_is_brighter_than_muscle_where_the_coverage_says_they_are(fields):
    frames, coverage = fields
    for frame, covered in zip(frames[:, 1], coverage, strict=True):
        blood, muscle = (frame[covered[k] > 0.95] for k in (LV, MUSCLE))
        if len(blood) > 50 and len(muscle) > 50:
            assert blood.median() > muscle.median()


def test_coverage_stays_a_share_and_frames_stay_in_the_unit_range(fields):
    frames, coverage = fields
    assert frames.shape == (20, 3, 160, 160)
    assert coverage.shape == (20, 6, 160, 160)
    assert 0 <= frames.min() < frames.max() <= 1
    assert coverage.min() >= 0
    assert coverage.sum(dim=1).max() <= 1 + 0.02  # six shares, each rounded to 255ths


def test_the_same_seed_gives_the_same_fields_and_the_beat_moves(hearts, fields):
    torch.manual_seed(0)
    rows = hearts[list(range(10)) * 2]
    again = random_fields(rows["cine"].float() / 255, rows["coverage"].float() / 255, rows["is_phantom"])
    assert torch.equal(again[0], fields[0])
    assert (again[0][:, 0] - again[0][:, 2]).abs().amax(dim=(1, 2)).min() > 0.1
    assert not torch.equal(again[1][:10], again[1][10:])  # the same hearts in other poses


def test_hearts_are_kept_on_disk(folder, hearts, monkeypatch):
    monkeypatch.setattr("cpgg_hf.segmentation.rendered.SUBJECTS_PER_FILE", 10)
    monkeypatch.setattr(heart_shapes, "_subject", lambda *_: 1 / 0)
    again = HeartShapes(folder, 10, progress=False)
    assert again.fingerprint() == hearts.fingerprint()
    assert torch.equal(again[[4]]["coverage"], hearts[[4]]["coverage"])
    with pytest.raises(ValueError, match="multiple of 10"):
        HeartShapes(folder, 15)


def test_a_whole_beat_shows_one_heart_in_one_place(hearts):
    torch.manual_seed(1)
    rows = hearts[list(range(10))]
    frames, coverage = random_beats(rows["cine"].float() / 255, rows["coverage"].float() / 255, rows["is_phantom"])
    assert frames.shape == (10, 10, 160, 160)
    assert coverage.shape == (10, 10, 6, 160, 160)
    axis = torch.arange(160.0)
    for covered in coverage.sum(dim=2):
        if covered.amax() > 0.5:
            middles = torch.stack([(covered.sum(dim=k) @ axis) / covered.sum(dim=(1, 2)) for k in (1, 2)])
            assert (middles.amax(dim=1) - middles.amin(dim=1)).max() < 12


def test_nothing_is_seen_or_marked_outside_the_field_of_view(fields):
    frames, coverage = fields
    narrow = [(frame, covered) for frame, covered in zip(frames, coverage, strict=True) if (frame[:, 0] == 0).all()]
    assert narrow
    for frame, covered in narrow:
        assert (covered[:, (frame == 0).all(dim=0)] == 0).all()
