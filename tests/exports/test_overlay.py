"""The segmentation drawn on its cine: outlines where the structures end, and the volumes beside the beat."""

import numpy as np
import pytest
from PIL import Image

from cpgg_hf.cine import Cine
from cpgg_hf.exports.overlay import COLOURS, PICTURES, draw_outlines, write_overlay
from cpgg_hf.phantom import LABELS


@pytest.fixture
def ring():
    """A cine whose LV is a square of 8 x 8 pixels in a wall of 12 x 12."""
    cine = Cine(pixels=np.full((10, 32, 32), 100, dtype=np.uint8), frame_time_ms=80.0, acquired=True)
    labels = np.zeros((10, 32, 32), dtype=int)
    labels[:, 10:22, 10:22] = LABELS["LV myocardium"]
    labels[:, 12:20, 12:20] = LABELS["LV cavity"]
    return cine, np.moveaxis(np.eye(len(LABELS))[labels], -1, 1)


def test_outlines_lie_on_the_edges_and_the_rest_stays_grey(ring):
    drawn = draw_outlines(*ring)
    assert drawn.shape == (10, 128, 128, 3)
    for name, first, last in (("LV cavity", 12, 20), ("LV myocardium", 10, 22)):
        rows, columns = np.nonzero((drawn[3] == COLOURS[name]).all(axis=-1))
        assert (rows.min(), rows.max() + 1) == pytest.approx((4 * first, 4 * last), abs=1)
        assert (columns.min(), columns.max() + 1) == pytest.approx((4 * first, 4 * last), abs=1)
    assert (drawn[3, 60:68, 60:68] == 100).all()
    assert (drawn[3, :30] == 100).all()


def test_the_beat_moves_beside_its_curve(ring, tmp_path):
    cine, probabilities = ring
    write_overlay(tmp_path, cine, probabilities, {"LV": np.linspace(120, 50, 10)}, 9)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(PICTURES)
    with Image.open(tmp_path / "overlay.gif") as film:
        assert film.n_frames == 10
        shown = []
        for frame in (0, 9):
            film.seek(frame)
            shown.append(np.asarray(film.convert("RGB")).astype(int))
    red = np.abs(shown[0] - COLOURS["LV cavity"]).sum(axis=-1) < 30
    assert red.sum() > 100
    # The time's line moves from left to right.
    moved = np.nonzero((np.abs(shown[1] - shown[0]).sum(axis=-1) > 60).any(axis=0))[0]
    assert moved.max() - moved.min() > 150


def test_an_unknown_end_systole_and_no_curve_are_drawn_too(ring, tmp_path):
    write_overlay(tmp_path, *ring, {}, None)
    assert len(list(tmp_path.iterdir())) == 2
