"""From label probabilities to phenotypes, by the phantom's formulas (`phantom/geometry.py`).

Areas are sums of probabilities and lengths come from `heart_frame.py`, both without thresholds, so that a slight blur
does not change them. LV, LA and RA: V = 8 A^2 / (3 pi L); RV: V = 1.8 A^2 / L. End diastole is frame 0, end systole
the frame of the smallest LV.
"""

from dataclasses import dataclass, field

import numpy as np
import torch

from cpgg_hf.grid import NUM_FRAMES
from cpgg_hf.measure.heart_frame import HeartFrame, find_heart_frame, flat_end, pointed_end, sample, to_image
from cpgg_hf.measure.wall_thickness import wall_thickness
from cpgg_hf.phantom import LABELS
from cpgg_hf.phantom.geometry import AREA_LENGTH_FACTOR, RV_SHAPE_FACTOR
from cpgg_hf.phenotypes import LATERAL_SEGMENTS, NAMES, SEPTAL_SEGMENTS, enforce_identities, phenotype_index

# A structure smaller than this in any frame was not found.
_SMALLEST_AREA_MM2 = 100.0
# Share of its mean area by which a structure changes at most from one of 50 frames to the next; 0.09 in 60 phantoms.
_LARGEST_STEP = 0.2
# Area near a tip grows as distance ** exponent: 1.5 for the round ends; the RV narrows more sharply.
_TIPS = {"LV cavity": 1.5, "RV cavity": 1.62, "LA": 1.5, "RA": 1.5}
_STRUCTURES = tuple(name for name in LABELS if name != "background")
_TIP_SHARES = (0.02, 0.08)
# Around the LV's centre, wide enough for the largest heart.
_ALONG_MM = (-90.0, 145.0)
_ACROSS_MM = (-110.0, 85.0)


@dataclass(frozen=True)
class CineMeasurement:
    """The measurement of one cine.

    Attributes:
        phenotypes: (82,) float64 in physical units, NaN where not measurable.
        end_diastole: frame 0.
        end_systole: the frame of the smallest LV; None where the LV, the RV or the LA was not found.
        volumes_ml: "LV", "RV", "LA", "RA" -> (T,) mL.
        aorta_area_mm2: (T,) descending aorta.
        not_found: structures of `phantom.LABELS` that are not seen in every frame.
        jumps: structures whose area changes faster than a heart's -> the frame after which it changes most.
    """

    phenotypes: np.ndarray
    end_diastole: int
    end_systole: int | None
    volumes_ml: dict[str, np.ndarray]
    aorta_area_mm2: np.ndarray
    not_found: tuple[str, ...] = ()
    jumps: dict[str, int] = field(default_factory=dict)


def measure_labels(probabilities: torch.Tensor, spacing_mm: float, frame_time_ms: float) -> CineMeasurement:
    """Measure a cine from its label probabilities.

    Args:
        probabilities: (T, 7, H, W) in [0, 1], channels as `phantom.LABELS`; hard labels (0 or 1) work too.
        spacing_mm: pixel size.
        frame_time_ms: RR / T.

    Returns:
        The phenotypes, volumes and areas, and which structures cannot be trusted.
    """
    probabilities = probabilities.float()
    unknown = np.full(len(probabilities), np.nan)
    areas = (probabilities.sum(dim=(2, 3)).double() * spacing_mm**2).numpy()
    area = {name: _smoothed(areas[:, label]) for name, label in LABELS.items()}
    found = {name: bool(curve.min() > _SMALLEST_AREA_MM2) for name, curve in area.items()}
    values: dict[str, float] = {}
    volumes = dict.fromkeys(("LV", "RV", "LA", "RA"), unknown)
    end_systole = None

    if found["descending aorta"]:
        values["DAo_max_area"] = area["descending aorta"].max()
        values["DAo_min_area"] = area["descending aorta"].min()
    # Without these three the heart's axes, and with them every length, are unknown.
    if found["LV cavity"] and found["RV cavity"] and found["LA"]:
        lv, rv, la = (probabilities[:, LABELS[name]] for name in ("LV cavity", "RV cavity", "LA"))
        heart = find_heart_frame(lv, rv, la, spacing_mm)
        chambers = {name: probabilities[:, LABELS[name]] for name in _TIPS if found[name]}
        ends = _extents(chambers, heart, spacing_mm)
        for name, extent in ends.items():
            factor = RV_SHAPE_FACTOR if name == "RV cavity" else AREA_LENGTH_FACTOR
            volumes[name.split()[0]] = factor * area[name] ** 2 / extent.length / 1000
        end_systole = int(np.argmin(volumes["LV"]))
        values |= _volume_phenotypes(volumes, end_systole, len(lv) * frame_time_ms)
        values |= _strain_phenotypes(ends["LV cavity"], area["LV cavity"], end_systole)
        if found["LV myocardium"]:
            wall = probabilities[0, LABELS["LV myocardium"]]
            apex, base = float(ends["LV cavity"].tip[0]), float(ends["LV cavity"].valve[0])
            septal, lateral = wall_thickness(lv[0], wall, heart, apex, base, spacing_mm)
            values |= {f"WT_AHA_{k}": value for k, value in zip(SEPTAL_SEGMENTS, septal, strict=True)}
            values |= {f"WT_AHA_{k}": value for k, value in zip(LATERAL_SEGMENTS, lateral, strict=True)}
    return CineMeasurement(
        phenotypes=_row(values),
        end_diastole=0,
        end_systole=end_systole,
        volumes_ml=volumes,
        aorta_area_mm2=area["descending aorta"],
        not_found=tuple(name for name in _STRUCTURES if not found[name]),
        jumps=_jumps({name: areas[:, LABELS[name]] for name in _STRUCTURES if found[name]}),
    )


def _jumps(areas: dict[str, np.ndarray]) -> dict[str, int]:
    """Structures with a change of area (T,) that no heart makes -> the frame before the largest one."""
    jumps = {}
    for name, area in areas.items():
        step = np.abs(np.roll(area, -1) - area) / area.mean()
        if step.max() > _LARGEST_STEP * max(1.0, NUM_FRAMES / len(area)):
            jumps[name] = int(step.argmax())
    return jumps


@dataclass(frozen=True)
class _Extent:
    """A chamber along the LV's axis, each (T,): tip and valve in mm, the valve plane's slope."""

    tip: np.ndarray
    valve: np.ndarray
    slope: np.ndarray

    @property
    def length(self) -> np.ndarray:
        return np.abs(self.valve - self.tip)


def _extents(chambers: dict[str, torch.Tensor], heart: HeartFrame, spacing_mm: float) -> dict[str, _Extent]:
    along = np.arange(_ALONG_MM[0], _ALONG_MM[1], spacing_mm)
    across = np.arange(_ACROSS_MM[0], _ACROSS_MM[1], spacing_mm)
    height, width = torch.meshgrid(torch.from_numpy(along).float(), torch.from_numpy(across).float(), indexing="ij")
    maps = sample(torch.stack(list(chambers.values()), dim=1), to_image(heart, width, height), spacing_mm).numpy()
    extents = {}
    for index, name in enumerate(chambers):
        # From tip to valve: upwards in the ventricles, downwards in the atria.
        order = 1 if name.endswith("cavity") else -1
        chamber, heights = maps[:, index, ::order], along[::order]
        tip = pointed_end(chamber.sum(axis=2), heights, _TIPS[name], _TIP_SHARES)
        valve, slope = flat_end(chamber, across, heights)
        extents[name] = _Extent(_smoothed(tip), _smoothed(valve), _smoothed(slope))
    return extents


def _volume_phenotypes(volumes: dict[str, np.ndarray], end_systole: int, cycle_ms: float) -> dict[str, float]:
    values = {}
    for name in ("LV", "RV"):
        values[f"{name}EDV"], values[f"{name}ESV"] = volumes[name][0], volumes[name][end_systole]
    for name in ("LA", "RA"):
        values[f"{name}V_max"], values[f"{name}V_min"] = volumes[name].max(), volumes[name].min()
    values["LVCO"] = (values["LVEDV"] - values["LVESV"]) * 60 / cycle_ms
    return values


def _strain_phenotypes(lv: _Extent, area: np.ndarray, end_systole: int) -> dict[str, float]:
    """The annulus tilts as septal and lateral wall shorten unequally; each wall's change stands for its segments."""
    values = {"Ell_Global": 100 * (lv.length.min() / lv.length[0] - 1)}
    half_width = 0.5 * area / lv.length
    for side, segments in ((-1, (1, 2, 3)), (1, (4, 5, 6))):
        wall_length = lv.length + side * half_width * lv.slope
        values |= {f"Ell_{k}": 100 * (wall_length[end_systole] / wall_length[0] - 1) for k in segments}
    return values


def _smoothed(curve: np.ndarray) -> np.ndarray:
    """A cyclic curve averaged with its neighbours (1, 2, 1)."""
    return 0.5 * curve + 0.25 * (np.roll(curve, 1) + np.roll(curve, -1))


def _row(values: dict[str, float]) -> np.ndarray:
    """(82,) with SV and EF derived, so that the identities hold exactly."""
    row = np.full(len(NAMES), np.nan)
    for name, value in values.items():
        row[phenotype_index(name)] = value
    return enforce_identities(row[None])[0]
