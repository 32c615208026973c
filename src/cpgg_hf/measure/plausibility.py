"""Which measured phenotypes can be trusted: one filter, with one set of notes, for every command.

A value is left out if it lies outside the range that hearts have, if its structure was not found in every frame or its
area jumps from one frame to the next, or if it depends on a value that is left out for such a reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cpgg_hf.measure.formulas import CineMeasurement
from cpgg_hf.phenotypes import NAMES, PHENOTYPES

_WALL_THICKNESS = tuple(p.short_name for p in PHENOTYPES if p.measurable and p.short_name.startswith("WT_"))
_STRAINS = tuple(f"Ell_{segment}" for segment in range(1, 7))
_VOLUMES = {
    "LV": ("LVEDV", "LVESV", "LVSV", "LVEF", "LVCO"),
    "RV": ("RVEDV", "RVESV", "RVSV", "RVEF"),
    "LA": ("LAV_max", "LAV_min", "LASV", "LAEF"),
    "RA": ("RAV_max", "RAV_min", "RASV", "RAEF"),
}
# What cannot be trusted where a structure cannot: the LV gives the walls their place, and the frame of end systole.
_DEPENDANTS = {
    "LV cavity": (*_VOLUMES["LV"], *_WALL_THICKNESS, *_STRAINS, "Ell_Global", "RVESV", "RVSV", "RVEF"),
    "LV myocardium": _WALL_THICKNESS,
    "RV cavity": _VOLUMES["RV"],
    "LA": _VOLUMES["LA"],
    "RA": _VOLUMES["RA"],
    "descending aorta": ("DAo_max_area", "DAo_min_area"),
}
# A value outside its range puts its whole structure in doubt; that of a segment, only the segment.
_STRUCTURE_OF = {name: key for key in ("RV cavity", "LA", "RA", "descending aorta") for name in _DEPENDANTS[key]}
_STRUCTURE_OF |= dict.fromkeys(_VOLUMES["LV"], "LV cavity")
_GIVE_THE_AXES = {"LV cavity", "RV cavity", "LA"}  # without one of them no length is known
_SEGMENTS = {"Ell_Global": _STRAINS}  # a global value -> the segments that it stands for


@dataclass(frozen=True)
class PlausibleMeasurement:
    """What can be trusted of a measurement.

    Attributes:
        phenotypes: (82,) float64 in physical units, NaN where not measurable or left out.
        end_systole: the frame of the smallest LV; None if the LV cannot be trusted.
        volumes_ml: "LV", "RV", "LA", "RA" -> (T,) mL, of the chambers that can be trusted.
        notes: a sentence for each reason, which names every value that is left out for it.
    """

    phenotypes: np.ndarray
    end_systole: int | None
    volumes_ml: dict[str, np.ndarray]
    notes: tuple[str, ...]


def plausible(measured: CineMeasurement) -> PlausibleMeasurement:
    """Leave out what cannot be trusted, and say what and why."""
    values = {
        name: value for name, value in zip(NAMES, measured.phenotypes.tolist(), strict=True) if not np.isnan(value)
    }
    doubted, notes = set(measured.not_found), _about_missing(measured, values)

    def leave_out(names: tuple[str, ...], reason: str) -> None:
        known = [name for name in names if values.pop(name, None) is not None]
        if known:
            notes.append(f"{reason}: {', '.join(known)} left out; check the picture.")

    for structure, frame in measured.jumps.items():
        doubted.add(structure)
        leave_out(_DEPENDANTS[structure], f"the area of the {structure} jumps after frame {frame}")
    for phenotype in PHENOTYPES:
        name = phenotype.short_name
        if name not in values or phenotype.minimum <= values[name] <= phenotype.maximum:
            continue
        names: tuple[str, ...] = (name,)
        if name in _STRUCTURE_OF:
            structure = _STRUCTURE_OF[name]
            doubted.add(structure)
            names = _DEPENDANTS[structure]
        outside = f"{values[name]:.3g} {phenotype.unit}, outside {phenotype.minimum:g} to {phenotype.maximum:g}"
        leave_out(names, f"{name} measured as {outside}")
    for name, segments in _SEGMENTS.items():
        if not any(segment in values for segment in segments):
            leave_out((name,), "none of its segments can be trusted")
    return PlausibleMeasurement(
        phenotypes=np.array([values.get(name, np.nan) for name in NAMES]),
        end_systole=None if "LV cavity" in doubted else measured.end_systole,
        volumes_ml={
            chamber: curve
            for chamber, curve in measured.volumes_ml.items()
            if np.isfinite(curve).all() and not doubted & {chamber, f"{chamber} cavity"}
        },
        notes=tuple(notes),
    )


def _about_missing(measured: CineMeasurement, values: dict[str, float]) -> list[str]:
    """Sentences that name the phenotypes that a four-chamber view shows and that were not measured."""
    missing = [p.short_name for p in PHENOTYPES if p.measurable and p.short_name not in values]
    gone = {name for structure in measured.not_found for name in _DEPENDANTS[structure]}
    if _GIVE_THE_AXES & set(measured.not_found):
        gone = {name for names in _DEPENDANTS.values() for name in names}
    reasons = {
        f"not every frame shows the {', '.join(measured.not_found)}": [name for name in missing if name in gone],
        "a wall or a valve was not found": [name for name in missing if name not in gone],
    }
    return [f"{reason}: {', '.join(names)} not measured." for reason, names in reasons.items() if names]


def disagreements(known: np.ndarray, measured: np.ndarray) -> dict[str, str]:
    """Where known and measured phenotypes differ by more than half the population's standard deviation.

    Args:
        known: (82,) in physical units, NaN = unknown.
        measured: (82,), NaN = not measured or left out.

    Returns:
        Name -> a sentence with both values.
    """
    differ = {}
    for phenotype, given, found in zip(PHENOTYPES, known.tolist(), measured.tolist(), strict=True):
        if abs(found - given) > 0.5 * phenotype.sd:
            name, unit = phenotype.short_name, phenotype.unit
            differ[name] = f"{name} is given as {given:.1f} {unit} but measured as {found:.1f}; check both."
    return differ
