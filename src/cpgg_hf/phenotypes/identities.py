"""The nine exact identities among the 82 phenotypes, and what they imply.

For each chamber SV = largest - smallest volume and EF = 100 SV / largest volume (eight identities); both aortic
distensibilities share one pulse pressure, PP = 1000 (Amax - Amin) / (Amin x distensibility) (the ninth). So 73 are
free and nine derived: SV and EF of the four chambers and the descending aorta's distensibility. Implied as well: heart
rate = 1000 CO / SV.
"""

import numpy as np

from cpgg_hf.errors import PhenotypeError
from cpgg_hf.phenotypes.schema import NAMES, PHENOTYPES, phenotype_index

# (largest volume, smallest volume, stroke volume, ejection fraction)
CHAMBERS: tuple[tuple[int, int, int, int], ...] = tuple(
    (phenotype_index(largest), phenotype_index(smallest), phenotype_index(f"{name}SV"), phenotype_index(f"{name}EF"))
    for name, largest, smallest in (
        ("LV", "LVEDV", "LVESV"),
        ("RV", "RVEDV", "RVESV"),
        ("LA", "LAV_max", "LAV_min"),
        ("RA", "RAV_max", "RAV_min"),
    )
)
# (largest area, smallest area, distensibility)
AORTAS: tuple[tuple[int, int, int], ...] = tuple(
    (
        phenotype_index(f"{name}_max_area"),
        phenotype_index(f"{name}_min_area"),
        phenotype_index(f"{name}_distensibility"),
    )
    for name in ("AAo", "DAo")
)
DERIVED_INDICES: tuple[int, ...] = (*(index for chamber in CHAMBERS for index in chamber[2:]), AORTAS[1][2])

_FLOAT64_ROUNDING = 1e-12  # relative, of an exact identity
_FLOAT32_ROUNDING = 2.0**-23


def heart_rate(array: np.ndarray) -> np.ndarray:
    """Heart rate (B,) per minute implied by (B, 82) phenotypes: 1000 LVCO / LVSV; NaN where one is missing."""
    return _divide(1000 * array[:, phenotype_index("LVCO")], array[:, phenotype_index("LVSV")])


def pulse_pressure(array: np.ndarray) -> np.ndarray:
    """Pulse pressure (B,) in mmHg from the ascending aorta, or the descending one where the ascending is missing."""
    ascending, descending = (_pulse_pressure(array, aorta) for aorta in AORTAS)
    return np.where(np.isnan(ascending), descending, ascending)


def enforce_identities(array: np.ndarray) -> np.ndarray:
    """Recompute the nine derived of (B, 82) phenotypes from the 73 free ones, so that the identities hold exactly."""
    result = np.array(array, dtype=np.float64)
    result[:, DERIVED_INDICES] = _derived(result)
    return result


def identity_residuals(array: np.ndarray) -> np.ndarray:
    """Given minus recomputed value of each derived phenotype, in its unit: (B, 9), ordered as `DERIVED_INDICES`."""
    return array[:, DERIVED_INDICES] - _derived(array)


def complete_identities(array: np.ndarray) -> np.ndarray:
    """Fill what the given values determine.

    Two of a chamber's largest volume, smallest volume, SV and EF determine the other two; five of the six aortic
    values determine the sixth. Given values stay untouched, also redundant ones that agree within rounding.

    Args:
        array: (B, 82) phenotypes, NaN = missing.

    Returns:
        a new (B, 82) array.

    Raises:
        PhenotypeError: an over-determined request that contradicts itself, a largest volume or area that is not above
            the smallest, or an EF outside 0 to 100 %.
    """
    given = np.array(array, dtype=np.float64)
    for chamber in CHAMBERS:
        _check_fraction(given, chamber[3])
    result = fill_determined(given)
    for group in (*CHAMBERS, *AORTAS):
        _check_order(result, group, given)
    _check_agreement(result, given)
    return result


def fill_determined(array: np.ndarray) -> np.ndarray:
    """`complete_identities` without its checks: for values that are known to agree."""
    result = np.array(array, dtype=np.float64)
    for chamber in CHAMBERS:
        _complete_chamber(result, chamber)
    _complete_aortas(result)
    return result


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return numerator / denominator


def _pulse_pressure(array: np.ndarray, aorta: tuple[int, int, int]) -> np.ndarray:
    largest, smallest, distensibility = array[:, aorta].T
    return _divide(1000 * (largest - smallest), smallest * distensibility)


def _derived(array: np.ndarray) -> np.ndarray:
    columns = []
    for chamber in CHAMBERS:
        largest, smallest = array[:, chamber[:2]].T
        stroke = largest - smallest
        columns += [stroke, _divide(100 * stroke, largest)]
    largest, smallest = array[:, AORTAS[1][:2]].T
    columns.append(_divide(1000 * (largest - smallest), smallest * _pulse_pressure(array, AORTAS[0])))
    return np.stack(columns, axis=1)


def _half_units(array: np.ndarray) -> np.ndarray:
    """Half a unit of the last decimal that the values of each unit are given with, or float32's rounding."""
    result = np.zeros(array.shape)
    for unit in {phenotype.unit for phenotype in PHENOTYPES}:
        columns = [index for index, phenotype in enumerate(PHENOTYPES) if phenotype.unit == unit]
        values = array[:, columns]
        values = values[np.isfinite(values)]
        rounding = _FLOAT32_ROUNDING * np.abs(values)
        decimals = 0
        while decimals < 12 and np.any(np.abs(np.round(values, decimals) - values) > rounding):
            decimals += 1
        result[:, columns] = 0.5 * 10.0**-decimals
    return np.maximum(result, _FLOAT32_ROUNDING * np.abs(np.nan_to_num(array)))


def _fill(array: np.ndarray, index: int, values: np.ndarray) -> None:
    missing = np.isnan(array[:, index])
    array[missing, index] = values[missing]


def _complete_chamber(array: np.ndarray, chamber: tuple[int, int, int, int]) -> None:
    largest, smallest, stroke, fraction = chamber
    remaining = 1 - array[:, fraction] / 100
    _fill(array, largest, array[:, smallest] + array[:, stroke])
    _fill(array, largest, _divide(array[:, smallest], remaining))
    _fill(array, largest, _divide(100 * array[:, stroke], array[:, fraction]))
    _fill(array, smallest, array[:, largest] - array[:, stroke])
    _fill(array, smallest, array[:, largest] * remaining)
    _fill(array, stroke, array[:, largest] - array[:, smallest])
    _fill(array, fraction, _divide(100 * array[:, stroke], array[:, largest]))


def _complete_aortas(array: np.ndarray) -> None:
    for own, other in (AORTAS, AORTAS[::-1]):
        largest, smallest, distensibility = own
        pressure = _pulse_pressure(array, other)
        relative_change = array[:, distensibility] * pressure / 1000
        _fill(array, largest, array[:, smallest] * (1 + relative_change))
        _fill(array, smallest, array[:, largest] / (1 + relative_change))
        area_change = array[:, largest] - array[:, smallest]
        _fill(array, distensibility, _divide(1000 * area_change, array[:, smallest] * pressure))


def _shown(given: np.ndarray, row: int, indices: tuple[int, ...]) -> str:
    parts = [
        f"{NAMES[index]} = {given[row, index]:.6g} {PHENOTYPES[index].unit}"
        for index in indices
        if not np.isnan(given[row, index])
    ]
    return f"row {row}: " + ", ".join(parts)


def _check_fraction(given: np.ndarray, fraction: int) -> None:
    for row in map(int, np.flatnonzero((given[:, fraction] <= 0) | (given[:, fraction] >= 100))):
        raise PhenotypeError(f"{_shown(given, row, (fraction,))}; give an ejection fraction between 0 and 100 %.")


def _check_order(array: np.ndarray, group: tuple[int, ...], given: np.ndarray) -> None:
    largest, smallest = array[:, group[:2]].T
    for row in map(int, np.flatnonzero((largest <= smallest) | (smallest <= 0))):
        raise PhenotypeError(
            f"{_shown(given, row, group)}, but {NAMES[group[0]]} must be above {NAMES[group[1]]} and both positive"
            f" (they are {largest[row]:.6g} and {smallest[row]:.6g} {PHENOTYPES[group[0]].unit}); leave out one."
        )


def _check_agreement(array: np.ndarray, given: np.ndarray) -> None:
    """Refuse redundant values that differ by more than the rounding of the given ones, carried to first order."""
    residuals = identity_residuals(array)
    tolerances = _FLOAT64_ROUNDING * np.nan_to_num(np.abs(array[:, DERIVED_INDICES]))
    half_units = _half_units(given)
    for index in sorted({index for group in (*CHAMBERS, *AORTAS) for index in group}):
        moved = given.copy()
        moved[:, index] += half_units[:, index]
        tolerances += np.nan_to_num(np.abs(identity_residuals(fill_determined(moved)) - residuals))
    for row, identity in np.argwhere(np.abs(residuals) > tolerances).tolist():
        index = DERIVED_INDICES[identity]
        group = next((chamber for chamber in CHAMBERS if index in chamber), AORTAS[0] + AORTAS[1])
        implied = array[row, index] - residuals[row, identity]
        raise PhenotypeError(
            f"{_shown(given, row, group)} contradict each other (the others imply {NAMES[index]} = {implied:.6g}"
            f" {PHENOTYPES[index].unit}); leave out one."
        )
