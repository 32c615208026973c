"""Four-chamber anatomy in the image plane, computed from phenotypes: outlines in mm for each of 50 frames.

Heart coordinates: the LV's endocardial apex is the origin, y runs along the LV long axis from apex to base, x across
it towards the lateral wall. Every outline is scaled so that its polygon area is exactly the area given by the
stated volume formula; volumes have no hidden out-of-plane variable:

- LV, LA, RA: V = 8 A^2 / (3 pi L), single-plane area-length (L: LV apex to mitral midpoint; atria: annulus to roof).
- RV: V = RV_SHAPE_FACTOR A^2 / L, with L the extent of the cavity along the LV's long axis.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from cpgg_hf.grid import GRID_SIZE, NUM_FRAMES, SPACING_MM
from cpgg_hf.phantom.volume_curves import CycleCurves
from cpgg_hf.phenotypes import LATERAL_SEGMENTS, SEPTAL_SEGMENTS, phenotype_index

AREA_LENGTH_FACTOR = 8.0 / (3.0 * np.pi)
# Chosen so that a mean RV volume of 154 mL has a four-chamber area of about 26 cm2 at 79 mm length.
RV_SHAPE_FACTOR = 1.8
_NUM_LEVELS = 40


# What varies between subjects beside the phenotypes, as mean and sd, in the order of the draws; shares of one.
_ANATOMY = {
    "lv_sphericity": (1.0, 0.045),
    "lv_widest": (0.58, 0.04),
    "lv_roundness": (2.05, 0.12),
    "lv_bend": (0.0, 0.022),
    "rv_length_share": (0.82, 0.025),
    "rv_fullness": (1.0, 0.10),
    "rv_wall_mm": (2.8, 0.3),
    "la_length_share": (1.13, 0.06),
    "ra_length_share": (1.06, 0.05),
    "atrial_offset_mm": (4.0, 1.5),
    "valve_offset_mm": (6.0, 1.2),
    "fat_mm": (3.2, 0.8),
    "rotation_degrees": (52.0, 6.5),
    "shift_right_mm": (0.0, 2.2),
    "shift_down_mm": (0.0, 2.2),
    "aorta_angle": (0.45, 0.16),
    "aorta_gap_mm": (5.0, 1.0),
}


class Anatomy(SimpleNamespace):
    """One subject's value of each quantity in `_ANATOMY`."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Anatomy":
        """Draw one subject's anatomy."""
        scores = np.clip(rng.standard_normal(len(_ANATOMY)), -2.2, 2.2).tolist()
        return cls(**{name: mean + sd * z for (name, (mean, sd)), z in zip(_ANATOMY.items(), scores, strict=True)})


@dataclass(frozen=True)
class HeartOutlines:
    """Closed outlines in image mm (right, down) from the image centre; each (50, N, 2), star-shaped.

    Attributes:
        lv_cavity, lv_wall, rv_blob, la, ra: Chambers; `lv_wall` is the epicardial outline, `rv_blob` runs under it
            (the RV cavity is the blob less the LV).
        aorta_centre, aorta_radius: Descending aorta, (2,) mm and (50,) mm.
        mitral, tricuspid: Annulus end points, (50, 2, 2).
        axis, across: Unit vectors towards the base and the lateral wall, (2,).
        apex: (2,) the LV's endocardial apex.
        lv_length: (50,) mm.
        lv_half_width: (50,) mm, at the widest level.
    """

    lv_cavity: np.ndarray
    lv_wall: np.ndarray
    rv_blob: np.ndarray
    la: np.ndarray
    ra: np.ndarray
    aorta_centre: np.ndarray
    aorta_radius: np.ndarray
    mitral: np.ndarray
    tricuspid: np.ndarray
    axis: np.ndarray
    across: np.ndarray
    apex: np.ndarray
    lv_length: np.ndarray
    lv_half_width: np.ndarray


def _value(phenotypes: np.ndarray, name: str) -> float:
    return float(phenotypes[phenotype_index(name)])


def chamber_area(volume_ml: np.ndarray, length_mm: np.ndarray, factor: float = AREA_LENGTH_FACTOR) -> np.ndarray:
    """In-plane area in mm2 from volume in mL and length in mm: A = sqrt(V L / factor)."""
    return np.sqrt(np.asarray(volume_ml) * 1000.0 * length_mm / factor)


def _segment_profile(values: np.ndarray, level: np.ndarray) -> np.ndarray:
    """A smooth profile over the long axis whose mean over each third equals the segment's value.

    Args:
        values: (F, 3) segment values, base, mid, apex.
        level: (N,) position, 0 at the apex and 1 at the base.

    Returns:
        (F, N): the parabola with these three means (its integral over each third is the value / 3).
    """
    edges = np.array([[2 / 3, 1.0], [1 / 3, 2 / 3], [0.0, 1 / 3]])
    powers = np.arange(3)
    means = 3 * (edges[:, 1:] ** (powers + 1) - edges[:, :1] ** (powers + 1)) / (powers + 1)
    coefficients = np.linalg.solve(means, values.T)
    return coefficients.T @ (level[None, :] ** powers[:, None])


def _lv_profile(level: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    """Half width of the left ventricle over the long axis (0 at the apex, 1 at its widest level)."""
    below = np.clip(1 - level / anatomy.lv_widest, 0, 1)
    above = np.clip((level - anatomy.lv_widest) / (1 - anatomy.lv_widest), 0, 1)
    return np.sqrt(np.clip(1 - below**anatomy.lv_roundness, 0, None)) * (1 - 0.24 * above**1.8)


def _atrial_profile(level: np.ndarray) -> np.ndarray:
    """Width of an atrium from annulus (0) to roof (1): narrow at the valve, round at the roof."""
    lower = 0.70 + 0.30 * np.sin(0.5 * np.pi * np.clip(level / 0.5, 0, 1)) ** 0.8
    upper = np.sqrt(np.clip(1 - np.clip((level - 0.5) / 0.5, 0, 1) ** 2.3, 0, None))
    return lower * upper


def _offset(outline: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Moves the points of open curves (F, N, 2) by distance (F, N) along their outward normals."""
    tangent = np.gradient(outline, axis=1)
    normal = np.stack([tangent[..., 1], -tangent[..., 0]], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return outline + normal * distance[..., None]


def heart_outlines(phenotypes: np.ndarray, curves: CycleCurves, anatomy: Anatomy) -> HeartOutlines:
    """Computes the outlines of one subject.

    Args:
        phenotypes: (82,) complete phenotypes in physical units.
        curves: Contraction over the cycle.
        anatomy: What the phenotypes leave open.
    """
    contraction, reservoir = curves.ventricle, curves.atrium

    # Left ventricle.
    lv_volume = _value(phenotypes, "LVEDV") - _value(phenotypes, "LVSV") * contraction
    length_ed = 17.2 * anatomy.lv_sphericity * _value(phenotypes, "LVEDV") ** (1 / 3)
    global_strain = _value(phenotypes, "Ell_Global") / 100
    tilt = np.mean([_value(phenotypes, f"Ell_{k}") for k in (1, 2, 3)])
    tilt = (tilt - np.mean([_value(phenotypes, f"Ell_{k}") for k in (4, 5, 6)])) / 200
    lv_length = length_ed * (1 + global_strain * contraction)
    septal_length = length_ed * (1 + (global_strain + tilt) * contraction)
    lateral_length = length_ed * (1 + (global_strain - tilt) * contraction)
    # Denser towards the apex, where the outline turns.
    level = np.linspace(0, 1, _NUM_LEVELS) ** 1.6
    profile = _lv_profile(level, anatomy)
    bend = anatomy.lv_bend * lv_length[:, None] * np.sin(np.pi * level)[None]
    sides = np.concatenate([-profile[::-1], profile[1:]])
    heights = np.concatenate([septal_length[:, None] * level[::-1], lateral_length[:, None] * level[1:]], axis=1)
    bends = np.concatenate([bend[:, ::-1], bend[:, 1:]], axis=1)
    unit = np.stack([np.broadcast_to(sides, heights.shape), heights], axis=-1)
    bent = np.stack([bends, heights], axis=-1)
    half_width = (chamber_area(lv_volume, lv_length) - _signed_area(bent)) / _signed_area(unit)
    lv_cavity = np.stack([half_width[:, None] * sides + bends, heights], axis=-1)

    # Walls: thickness at end diastole from the segments, thickened by their radial strains.
    def thickness(segments: tuple[int, ...]) -> np.ndarray:
        diastolic = np.array([_value(phenotypes, f"WT_AHA_{k}") for k in segments])
        strain = np.array([_value(phenotypes, f"Err_AHA_{k}") for k in segments]) / 100
        return _segment_profile(diastolic * (1 + strain * contraction[:, None]), level)

    septal, lateral = thickness(SEPTAL_SEGMENTS), thickness(LATERAL_SEGMENTS)
    apex_thickness = 0.5 * (septal[:, :1] + lateral[:, :1])
    fade = np.exp(-((level / 0.08) ** 2))
    septal, lateral = (side + fade * (apex_thickness - side) for side in (septal, lateral))
    wall = np.clip(np.concatenate([septal[:, ::-1], lateral[:, 1:]], axis=1), 1.5, None)
    lv_wall = _offset(lv_cavity, wall)
    # The wall ends at the plane of the mitral annulus, which tilts with the septal and lateral shortening.
    septal_hinge, lateral_hinge = lv_cavity[:, 0], lv_cavity[:, -1]
    slope = (lateral_hinge[:, 1] - septal_hinge[:, 1]) / (lateral_hinge[:, 0] - septal_hinge[:, 0])
    plane = septal_hinge[:, 1:] + slope[:, None] * (lv_wall[..., 0] - septal_hinge[:, :1])
    lv_wall[..., 1] = np.minimum(lv_wall[..., 1], plane)

    # Right ventricle: from the septum's right side outwards.
    rv_volume = _value(phenotypes, "RVEDV") - _value(phenotypes, "RVSV") * contraction
    rv_top_ed = length_ed - anatomy.valve_offset_mm
    rv_length_ed = anatomy.rv_length_share * length_ed
    rv_strain = np.clip(0.24 * _value(phenotypes, "RVEF") / 56.0, 0.05, 0.34)
    rv_length = rv_length_ed * (1 - rv_strain * contraction)
    rv_bottom = np.full(NUM_FRAMES, rv_top_ed - rv_length_ed)
    rv_level = np.linspace(0, 1, _NUM_LEVELS)
    rv_profile = rv_level ** (0.62 / anatomy.rv_fullness) * (1 - 0.34 * rv_level**4)
    rv_heights = rv_bottom[:, None] + rv_length[:, None] * rv_level
    border = _border_at(lv_wall[:, :_NUM_LEVELS], rv_heights)
    rv_area = chamber_area(rv_volume, rv_length, RV_SHAPE_FACTOR)
    rv_width = rv_area / (rv_length * np.trapezoid(rv_profile, rv_level))
    free_wall = np.stack([border - rv_width[:, None] * rv_profile, rv_heights], axis=-1)
    hidden = np.stack([border + 0.6 * wall[:, :_NUM_LEVELS].mean(axis=1)[:, None], rv_heights], axis=-1)
    # The hidden side lies inside the LV wall; a shallow one keeps the blob star-shaped.
    rv_blob = np.concatenate([free_wall, hidden[:, ::-1]], axis=1)
    tricuspid = np.stack([free_wall[:, -1], np.stack([border[:, -1], rv_heights[:, -1]], axis=-1)], axis=1)

    # Atria: each leans on the interatrial septum.
    septum_x = 0.5 * (lv_cavity[:, 0, 0] + lv_wall[:, 0, 0]) + anatomy.atrial_offset_mm
    septum_x = np.full(NUM_FRAMES, septum_x.mean())
    la = _atrium(phenotypes, "LA", reservoir, lv_length, anatomy.la_length_share, side=1)
    la[..., 0] += septum_x[:, None] + 1.3
    # Shears keep areas: the LA's floor follows the mitral plane, the RA leans from the ventricular septum to its own.
    la[..., 1] += slope[:, None] * (la[..., 0] - 0.5 * (septal_hinge + lateral_hinge)[:, :1])
    ra = _atrium(phenotypes, "RA", reservoir, rv_bottom + rv_length, anatomy.ra_length_share, side=-1)
    floor, roof = ra[..., 1].min(axis=1, keepdims=True), ra[..., 1].max(axis=1, keepdims=True)
    lean = (ra[..., 1] - floor) / (roof - floor)
    ra[..., 0] += (1 - lean) * (border[:, -1:] - 0.5) + lean * (septum_x[:, None] - 1.3)

    # Descending aorta: behind the left atrium, a circle of the phenotype's area.
    low, high = _value(phenotypes, "DAo_min_area"), _value(phenotypes, "DAo_max_area")
    aorta_radius = np.sqrt((low + (high - low) * curves.aorta) / np.pi)

    # Into the image: apex to the upper right, base to the lower left.
    rotation = np.deg2rad(anatomy.rotation_degrees)
    axis = np.array([-np.cos(rotation), np.sin(rotation)])
    across = np.array([np.sin(rotation), np.cos(rotation)])
    to_image = np.stack([across, axis])
    placed = [outline @ to_image for outline in (lv_cavity, lv_wall, rv_blob, la, ra)]
    everything = np.concatenate([outline.reshape(-1, 2) for outline in placed])
    shift = np.array([anatomy.shift_right_mm, anatomy.shift_down_mm])
    apex = shift - 0.5 * (everything.min(axis=0) + everything.max(axis=0))
    placed = [outline + apex for outline in placed]
    aorta_centre = _place_aorta(placed[3], float(aorta_radius.max()), anatomy)
    names = ("lv_cavity", "lv_wall", "rv_blob", "la", "ra")
    return HeartOutlines(
        **dict(zip(names, placed, strict=True)),
        aorta_centre=aorta_centre,
        aorta_radius=aorta_radius,
        mitral=lv_cavity[:, [0, -1]] @ to_image + apex,
        tricuspid=tricuspid @ to_image + apex,
        axis=axis,
        across=across,
        apex=apex,
        lv_length=lv_length,
        lv_half_width=half_width,
    )


def _place_aorta(la: np.ndarray, radius: float, anatomy: Anatomy) -> np.ndarray:
    """Behind the left atrium and clear of it in every frame; turned sideways until all of it lies in the field."""
    centre = la.mean(axis=(0, 1))
    limit = GRID_SIZE * SPACING_MM / 2 - radius - 3.0
    for turn in (0.0, 0.25, -0.25, 0.5, -0.5, 0.75, 1.0, 1.25):
        angle = anatomy.aorta_angle + turn
        direction = np.array([np.sin(angle), np.cos(angle)])
        reach = float(((la - centre) @ direction).max())
        place = centre + direction * (reach + anatomy.aorta_gap_mm + radius)
        if np.abs(place).max() <= limit:
            return place
    return np.clip(place, -limit, limit)


def _signed_area(outline: np.ndarray) -> np.ndarray:
    x, y = outline[..., 0], outline[..., 1]
    return 0.5 * np.sum(x * np.roll(y, -1, -1) - y * np.roll(x, -1, -1), axis=-1)


def _border_at(curve: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """The x of the curves (F, N, 2), base to apex, at heights (F, M); continued straight beyond the base."""
    return np.stack([np.interp(h, c[::-1, 1], c[::-1, 0]) for c, h in zip(curve, heights, strict=True)])


def _atrium(
    phenotypes: np.ndarray,
    name: str,
    reservoir: np.ndarray,
    annulus_height: np.ndarray,
    length_share: float,
    side: int,
) -> np.ndarray:
    """Outline (50, N, 2) of one atrium: `side` 1 lies right of x = 0 (LA), -1 left of it (RA)."""
    largest = _value(phenotypes, f"{name}V_max")
    volume = _value(phenotypes, f"{name}V_min") + _value(phenotypes, f"{name}SV") * reservoir
    length_max = 10.0 * length_share * largest ** (1 / 3)
    descent = float(np.ptp(annulus_height))
    shortening = np.clip(0.75 * descent / length_max, 0.08, 0.36)
    length = length_max * (1 - shortening * (1 - reservoir))
    level = np.linspace(0, 1, _NUM_LEVELS)
    profile = _atrial_profile(level)
    width = chamber_area(volume, length) / (length * np.trapezoid(profile, level))
    heights = annulus_height[:, None] + length[:, None] * level
    near = side * 0.32 * width[:, None] * (1 - profile)
    far = near + side * width[:, None] * profile
    return np.concatenate([np.stack([near, heights], -1), np.stack([far, heights], -1)[:, ::-1]], axis=1)
