"""Classify the view of a cardiac plane from its normal in the patient.

The reference normals are textbook geometry, not fitted to data. The left ventricle's long axis points to the left,
forwards and down: about 45 degrees to the left of straight ahead and 28 degrees below the horizontal. A short-axis
plane is perpendicular to it. The long-axis planes contain it, and the American Heart Association's segments put them
60 degrees apart around it (four-chamber: inferoseptal and anterolateral; two-chamber: anterior and inferior;
three-chamber: anteroseptal and inferolateral). The two-chamber plane is planned upright on an axial scout, so its
normal is horizontal, and the other two follow by turning it 60 degrees around the long axis.

Hearts deviate by 20 degrees and more from the average, so neighbouring views can be confused: the confidence is how
much nearer the best view is than the next.
"""

from dataclasses import dataclass

import numpy as np

from cpgg_hf.errors import InputError

VIEW_NAMES = {
    "4ch": "four-chamber (4CH)",
    "2ch": "two-chamber (2CH)",
    "3ch": "three-chamber (3CH)",
    "sax": "short-axis (SAX)",
    "unknown": "none of the four cardiac views",
}
_TOLERANCE_DEGREES = 42.0
_CLEAR_MARGIN_DEGREES = 30.0
_DOUBT = 0.4  # less than 12 degrees nearer than the next view


def _turned(vector: np.ndarray, axis: np.ndarray, degrees: float) -> np.ndarray:
    """Turn a vector that is perpendicular to a unit axis around that axis."""
    angle = np.deg2rad(degrees)
    return vector * np.cos(angle) + np.cross(axis, vector) * np.sin(angle)


def reference_normals() -> dict[str, np.ndarray]:
    """The textbook normal of each view, unit vectors in patient coordinates (x left, y back, z head)."""
    azimuth, elevation = np.deg2rad(45.0), np.deg2rad(-28.0)
    long_axis = np.array(
        [np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)]
    )
    two_chamber = np.cross([0.0, 0.0, 1.0], long_axis)
    two_chamber /= np.linalg.norm(two_chamber)
    return {
        "4ch": _turned(two_chamber, long_axis, -60.0),
        "2ch": two_chamber,
        "3ch": _turned(two_chamber, long_axis, 60.0),
        "sax": long_axis,
    }


@dataclass(frozen=True)
class ViewEstimate:
    """The view that a plane probably shows.

    Attributes:
        view: "4ch", "2ch", "3ch", "sax" or "unknown".
        confidence: 0 to 1; margin to the next view's normal, 1 from 30 degrees on.
        angles: degrees between the plane's normal and each view's; empty if the plane is unknown.
    """

    view: str
    confidence: float
    angles: dict[str, float]


def classify_view(normal: np.ndarray | None) -> ViewEstimate:
    """Classify the view of a plane from its normal (3,) in patient coordinates, of either sign.

    The view is the one whose textbook normal is nearest, if it is within 42 degrees, and "unknown" otherwise.
    """
    if normal is None:
        return ViewEstimate("unknown", 0.0, {})
    unit = np.asarray(normal, dtype=np.float64) / np.linalg.norm(normal)
    angles = {
        view: float(np.rad2deg(np.arccos(min(1.0, abs(float(unit @ reference))))))
        for view, reference in reference_normals().items()
    }
    nearest, second = sorted(angles, key=lambda view: angles[view])[:2]
    if angles[nearest] > _TOLERANCE_DEGREES:
        return ViewEstimate("unknown", 0.0, angles)
    margin = angles[second] - angles[nearest]
    return ViewEstimate(nearest, min(1.0, margin / _CLEAR_MARGIN_DEGREES), angles)


def require_view(estimate: ViewEstimate, wanted: str, origin: str) -> tuple[str, ...]:
    """Refuse a plane that is not the wanted view; "any" accepts every plane.

    Returns:
        Warnings, if the plane lies between two views or is unknown.

    Raises:
        InputError: the plane looks like another view.
    """
    if wanted not in ("4ch", "any"):
        raise ValueError(f"unknown view {wanted!r}; expected '4ch' or 'any'.")
    if wanted == "any":
        return ()
    if estimate.view == wanted:
        if estimate.confidence >= _DOUBT:
            return ()
        other = sorted(estimate.angles, key=lambda view: estimate.angles[view])[1]
        return (
            f"{origin}: taken as {VIEW_NAMES[wanted]}, but it could also be {VIEW_NAMES[other]}; check the image.",
        )
    if not estimate.angles:
        return (
            f"{origin}: the plane's position in the patient is not stated; the view is judged from the image alone.",
        )
    raise InputError(
        f"{origin} looks like {VIEW_NAMES[estimate.view]}, not {VIEW_NAMES[wanted]} (its plane is "
        f"{estimate.angles[wanted]:.0f} degrees from a typical one); give a 4CH series, or accept it with --view any."
    )


def accepted_view(estimate: ViewEstimate, wanted: str) -> str:
    """The view of a scan that passed every check: its plane's, or if that is unknown the one that the image shows."""
    return wanted if wanted == "4ch" and not estimate.angles else estimate.view
