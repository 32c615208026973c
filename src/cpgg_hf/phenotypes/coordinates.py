"""Coordinates for generative models, in which every combination of values is a possible heart.

The 82 phenotypes have 73 degrees of freedom and inequalities (ESV < EDV, EF < 100 %, smallest area < largest). A
*chart* is a choice of 73 coordinates that determine all 82 and satisfy every inequality: for each chamber
its EF and one of largest volume, smallest volume and SV; for each aorta one of its areas and its relative area change;
one of pulse pressure and the distensibilities; and the other phenotypes as they are. The chart is chosen such that the
values a user fixes are among its coordinates, so conditioning on them is conditioning on some coordinates.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np

from cpgg_hf.phenotypes.identities import AORTAS, CHAMBERS, enforce_identities, fill_determined, pulse_pressure
from cpgg_hf.phenotypes.schema import NAMES, PHENOTYPES

# The phenotypes themselves and three quantities that tie the aortic ones together.
COORDINATES: tuple[str, ...] = (*NAMES, "AAo_area_change", "DAo_area_change", "pulse_pressure")
AREA_CHANGES = (len(NAMES), len(NAMES) + 1)
PULSE_PRESSURE = len(NAMES) + 2

_CHAMBER_AND_AORTA = frozenset(index for group in (*CHAMBERS, *AORTAS) for index in group)
_PLAIN = tuple(index for index in range(len(NAMES)) if index not in _CHAMBER_AND_AORTA)
_FRACTIONS = np.array([chamber[3] for chamber in CHAMBERS])
_STRAINS = np.array([index for index, name in enumerate(NAMES) if name.startswith(("Ecc", "Err", "Ell"))])
_POSITIVE = np.setdiff1d(np.arange(len(COORDINATES)), np.concatenate([_FRACTIONS, _STRAINS]))
_SHORTENING = np.array([index for index in _STRAINS if PHENOTYPES[index].maximum <= 0])
_THICKENING = np.setdiff1d(_STRAINS, _SHORTENING)

Chart = tuple[int, ...]


def to_coordinates(array: np.ndarray) -> np.ndarray:
    """All coordinates of (B, 82) phenotypes in physical units: (B, 85), NaN where they are not determined."""
    changes = [array[:, largest] / array[:, smallest] - 1 for largest, smallest, _ in AORTAS]
    return np.column_stack([array, *changes, pulse_pressure(array)])


def to_unbounded(coordinates: np.ndarray) -> np.ndarray:
    """(B, 85) coordinates on the whole real line: logarithms, logits of EF, strains as they are."""
    result = np.array(coordinates, dtype=np.float64)
    result[:, _POSITIVE] = np.log(result[:, _POSITIVE])
    result[:, _FRACTIONS] = np.log(result[:, _FRACTIONS] / (100 - result[:, _FRACTIONS]))
    return result


def from_unbounded(unbounded: np.ndarray) -> np.ndarray:
    """Inverse of `to_unbounded`; strains on the wrong side of zero become zero."""
    result = np.array(unbounded, dtype=np.float64)
    result[:, _POSITIVE] = np.exp(result[:, _POSITIVE])
    result[:, _FRACTIONS] = 100 / (1 + np.exp(-result[:, _FRACTIONS]))
    result[:, _SHORTENING] = np.minimum(result[:, _SHORTENING], 0)
    result[:, _THICKENING] = np.maximum(result[:, _THICKENING], 0)
    return result


def all_charts() -> Iterator[Chart]:
    """Every chart that `chart_for` can choose, the default one first."""
    ascending, descending = AORTAS
    pressures = (
        (*AREA_CHANGES, PULSE_PRESSURE),
        (*AREA_CHANGES, ascending[2]),
        (*AREA_CHANGES, descending[2]),
        (AREA_CHANGES[0], ascending[2], descending[2]),
        (AREA_CHANGES[1], ascending[2], descending[2]),
    )
    sizes = product(*(chamber[:3] for chamber in CHAMBERS), ascending[1::-1], descending[1::-1])
    for size, pressure in product(sizes, pressures):
        yield _chart((*size, *pressure))


def chart_for(phenotypes: np.ndarray) -> tuple[Chart, np.ndarray]:
    """The chart whose coordinates include everything that a request fixes.

    Args:
        phenotypes: (82,), NaN = free, completed by `complete_identities`.

    Returns:
        the chart, and the (85,) coordinates with NaN for those that are free.
    """
    fixed = to_coordinates(phenotypes[None])[0]
    known = np.isfinite(fixed)
    for largest, smallest, _, fraction in CHAMBERS:
        # Of redundant values that agree within rounding the volumes hold.
        if known[largest] and known[smallest]:
            fixed[fraction] = 100 * (fixed[largest] - fixed[smallest]) / fixed[largest]
    chosen = [_first_known(known, chamber[:3]) for chamber in CHAMBERS]
    chosen += [_first_known(known, aorta[1::-1]) for aorta in AORTAS]
    distensibilities = [aorta[2] for aorta in AORTAS]
    if not known[PULSE_PRESSURE] and known[distensibilities].all():
        # Both distensibilities and at most one area change: the pulse pressure follows from the area change drawn.
        return _chart((*chosen, AREA_CHANGES[int(known[AREA_CHANGES[1]])], *distensibilities)), fixed
    if known[PULSE_PRESSURE]:
        for change, distensibility in zip(AREA_CHANGES, distensibilities, strict=True):
            if known[distensibility] and not known[change]:
                fixed[change] = fixed[distensibility] * fixed[PULSE_PRESSURE] / 1000
    tie = PULSE_PRESSURE
    if not known[PULSE_PRESSURE]:
        tie = next((index for index in distensibilities if known[index]), PULSE_PRESSURE)
    return _chart((*chosen, *AREA_CHANGES, tie)), fixed


def from_chart(coordinates: np.ndarray) -> np.ndarray:
    """Phenotypes from the coordinates of a chart.

    Args:
        coordinates: (B, 85) in physical units, NaN for coordinates outside the chart.

    Returns:
        (B, 82) complete phenotypes; the nine identities hold exactly.
    """
    values = np.array(coordinates, dtype=np.float64)
    for aorta, change in zip(AORTAS, AREA_CHANGES, strict=True):
        pressure = 1000 * values[:, change] / values[:, aorta[2]]
        values[:, PULSE_PRESSURE] = np.where(np.isnan(values[:, PULSE_PRESSURE]), pressure, values[:, PULSE_PRESSURE])
    for (largest, smallest, distensibility), change in zip(AORTAS, AREA_CHANGES, strict=True):
        relative = values[:, distensibility] * values[:, PULSE_PRESSURE] / 1000
        relative = np.where(np.isnan(values[:, change]), relative, values[:, change])
        values[:, largest] = _either(values[:, largest], values[:, smallest] * (1 + relative))
        values[:, smallest] = _either(values[:, smallest], values[:, largest] / (1 + relative))
        values[:, distensibility] = _either(values[:, distensibility], 1000 * relative / values[:, PULSE_PRESSURE])
    return enforce_identities(fill_determined(values[:, : len(NAMES)]))


def _either(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(first), second, first)


def _first_known(known: np.ndarray, candidates: tuple[int, ...]) -> int:
    return next((index for index in candidates if known[index]), candidates[0])


def _chart(chosen: tuple[int, ...]) -> Chart:
    return tuple(sorted((*_PLAIN, *_FRACTIONS.tolist(), *chosen)))
