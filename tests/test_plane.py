"""A plane keeps its position in the patient on the way to a NIfTI affine and back."""

import numpy as np
import pytest

from cpgg_hf.plane import TYPICAL_4CH_ORIENTATION, affine_of_plane, plane_normal, plane_of_affine

ORIENTATION = np.array([0.8, 0.6, 0.0, 0.0, 0.0, -1.0])
POSITION = np.array([-100.0, -50.0, 70.0])


def test_a_pixel_lies_where_dicom_says():
    """DICOM PS3.3 C.7.6.2.1.1, with x and y negated for NIfTI."""
    affine = affine_of_plane((1.5, 1.25), ORIENTATION, POSITION)
    row, column = 4, 10
    lps = POSITION + column * 1.25 * ORIENTATION[:3] + row * 1.5 * ORIENTATION[3:]
    assert affine @ [column, row, 0, 1] == pytest.approx([-lps[0], -lps[1], lps[2], 1])


def test_the_affine_gives_the_plane_back():
    orientation, position = plane_of_affine(affine_of_plane((1.5, 1.25), ORIENTATION, POSITION, 8.0))
    assert orientation == pytest.approx(ORIENTATION)
    assert position == pytest.approx(POSITION)


def test_without_a_position_the_image_is_centred_at_the_origin():
    affine = affine_of_plane((1.8, 2.0), shape=(96, 50))
    assert affine @ [24.5, 47.5, 0, 1] == pytest.approx([0, 0, 0, 1])
    assert np.linalg.norm(affine[:3, :3], axis=0) == pytest.approx([2.0, 1.8, 6.0])
    assert plane_of_affine(affine)[0] == pytest.approx(TYPICAL_4CH_ORIENTATION, abs=1e-4)


@pytest.mark.parametrize(
    ("orientation", "normal"),
    [
        ((1, 0, 0, 0, 1, 0), (0, 0, 1)),
        (ORIENTATION, (-0.6, 0.8, 0)),
        ((1, 0, 0, 1, 0, 0), None),  # parallel
        ((1, 0, 0, 0, 0.9, 0), None),  # not a unit vector
        ((0, 0, 0, 0, 0, 0), None),
        ((1e200, 0, 0, 0, 1, 0), None),
    ],
)
def test_the_normal_exists_only_for_two_perpendicular_unit_vectors(orientation, normal):
    found = plane_normal(np.array(orientation, dtype=np.float64))
    assert found is None if normal is None else found == pytest.approx(normal)
