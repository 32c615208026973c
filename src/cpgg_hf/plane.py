"""An image plane in the patient: orientation and position as in DICOM (PS3.3 C.7.6.2), and as a NIfTI affine.

Patient coordinates: DICOM's x to the left, y to the back, z to the head (LPS); NIfTI's x to the right, y to the front
(RAS); all in mm.
"""

import numpy as np

# A textbook four-chamber plane (see `preparation.grid.view`), displayed with the patient's left on the right and the
# back at the bottom: the direction of a row, then of a column.
TYPICAL_4CH_ORIENTATION = (0.99781, -0.04245, 0.05064, 0.0, 0.76634, 0.64244)
DEFAULT_SLICE_THICKNESS_MM = 6.0
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_DIRECTION_TOLERANCE = 0.04  # of a unit vector's squared length, and of the cosine of a right angle


def plane_normal(orientation: np.ndarray) -> np.ndarray | None:
    """Unit normal (3,) of a plane, of either sign; None if its directions are not two perpendicular unit vectors.

    Args:
        orientation: (6,) direction of a row, then of a column.
    """
    axes = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
    if not (np.abs(axes) < 2).all():  # before products overflow
        return None
    if np.abs(axes @ axes.T - np.eye(2)).max() > _DIRECTION_TOLERANCE:
        return None
    normal = np.cross(axes[0], axes[1])
    return normal / np.linalg.norm(normal)


def affine_of_plane(
    spacing_mm: tuple[float, float],
    orientation: np.ndarray | None = None,
    position: np.ndarray | None = None,
    slice_thickness_mm: float | None = None,
    shape: tuple[int, int] = (96, 96),
) -> np.ndarray:
    """The NIfTI affine (4, 4) of a plane: maps (column, row, 0) to mm in RAS.

    Args:
        spacing_mm: distance between rows, distance between columns.
        orientation: (6,); by default a textbook four-chamber plane.
        position: (3,) centre of the first pixel; by default the centre of the image lies at the origin.
        slice_thickness_mm: by default 6 mm.
        shape: rows and columns, used only to centre the image.
    """
    directions = np.asarray(TYPICAL_4CH_ORIENTATION if orientation is None else orientation, dtype=np.float64)
    along_row = directions[:3] / np.linalg.norm(directions[:3])
    along_column = directions[3:] - (directions[3:] @ along_row) * along_row
    along_column /= np.linalg.norm(along_column)
    axes = np.stack(
        [
            along_row * spacing_mm[1],
            along_column * spacing_mm[0],
            np.cross(along_row, along_column) * (slice_thickness_mm or DEFAULT_SLICE_THICKNESS_MM),
        ],
        axis=1,
    )
    if position is None:
        position = -axes @ np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2, 0.0])
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ axes
    affine[:3, 3] = LPS_TO_RAS @ np.asarray(position)
    return affine


def plane_of_affine(affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `affine_of_plane`: orientation (6,) and position (3,)."""
    axes = LPS_TO_RAS @ np.asarray(affine, dtype=np.float64)[:3, :2]
    axes /= np.linalg.norm(axes, axis=0)
    return axes.T.ravel(), LPS_TO_RAS @ affine[:3, 3]
