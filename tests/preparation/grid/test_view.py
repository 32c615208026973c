"""The view from the plane's normal: textbook planes, tilted hearts, refusals that say what a plane looks like."""

import numpy as np
import pytest

from cpgg_hf.errors import InputError
from cpgg_hf.plane import TYPICAL_4CH_ORIENTATION
from cpgg_hf.preparation.grid.view import classify_view, reference_normals, require_view


def normal_of(orientation) -> np.ndarray:
    return np.cross(orientation[:3], orientation[3:])


def turned(vector, axis, degrees) -> np.ndarray:
    """Rodrigues' rotation."""
    axis, angle = np.asarray(axis) / np.linalg.norm(axis), np.deg2rad(degrees)
    along = axis * (axis @ vector)
    return along + (vector - along) * np.cos(angle) + np.cross(axis, vector) * np.sin(angle)


def test_long_axis_planes_contain_the_long_axis_60_degrees_apart():
    normals = reference_normals()
    assert np.linalg.norm(list(normals.values()), axis=1) == pytest.approx(1)
    for view in ("4ch", "2ch", "3ch"):
        assert normals[view] @ normals["sax"] == pytest.approx(0, abs=1e-9)
    for one, other in (("4ch", "2ch"), ("2ch", "3ch"), ("3ch", "4ch")):
        assert abs(normals[one] @ normals[other]) == pytest.approx(0.5)


def test_the_long_axis_points_left_forwards_and_down():
    x, y, z = reference_normals()["sax"]
    assert x > 0.5
    assert y < -0.5
    assert -0.6 < z < -0.3


@pytest.mark.parametrize("view", ["4ch", "2ch", "3ch", "sax"])
@pytest.mark.parametrize("sign", [1, -1])
def test_typical_planes_are_recognised_from_either_side(view, sign):
    judgement = classify_view(sign * reference_normals()[view])
    assert judgement.view == view
    assert judgement.confidence == 1
    assert judgement.angles[view] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("view", ["4ch", "2ch", "3ch", "sax"])
def test_hearts_tilted_by_20_degrees_any_way_are_recognised(view):
    normal = reference_normals()[view]
    sideways = np.cross(normal, [0.3, 0.5, 0.8])
    for direction in range(0, 360, 30):
        assert classify_view(turned(normal, turned(sideways, normal, direction), 20)).view == view


def test_confidence_falls_between_two_views():
    normals = reference_normals()
    halfway = turned(normals["2ch"], normals["sax"], -28)
    assert classify_view(halfway).confidence < 0.2


def test_the_plane_given_to_generated_cines_is_a_four_chamber_plane():
    judgement = classify_view(normal_of(np.array(TYPICAL_4CH_ORIENTATION)))
    assert judgement.view == "4ch"
    assert judgement.angles["4ch"] < 0.1


def test_a_short_axis_plane_is_refused_where_4ch_is_requested():
    judgement = classify_view(reference_normals()["sax"])
    with pytest.raises(InputError, match=r"scan/7 looks like short-axis \(SAX\), not four-chamber.*--view any"):
        require_view(judgement, "4ch", "scan/7")
    assert require_view(judgement, "any", "scan/7") == ()


def test_a_sagittal_plane_is_no_cardiac_view():
    judgement = classify_view(np.array([1.0, 0.0, 0.0]))
    assert judgement.view == "unknown"
    with pytest.raises(InputError, match="looks like none of the four cardiac views, not four-chamber"):
        require_view(judgement, "4ch", "scan")


def test_doubt_between_two_views_is_said():
    normals = reference_normals()
    doubtful = classify_view(turned(normals["4ch"], normals["sax"], 27))
    assert doubtful.view == "4ch"
    assert "it could also be two-chamber (2CH)" in require_view(doubtful, "4ch", "scan")[0]
    assert require_view(classify_view(normals["4ch"]), "4ch", "scan") == ()


def test_an_unknown_plane_passes_with_a_warning():
    notes = require_view(classify_view(None), "4ch", "cine.nii")
    assert "judged from the image alone" in notes[0]


def test_unknown_requests_are_refused():
    with pytest.raises(ValueError, match="unknown view '5ch'"):
        require_view(classify_view(None), "5ch", "scan")
