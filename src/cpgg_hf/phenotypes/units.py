"""Values of the wrong magnitude: an ejection fraction of 0.55, a volume in litres, a strain as a fraction.

Such a value is a mistake about units, not an unusual heart, so it is an error in every input. A value that is only
outside the plausible range is accepted.
"""

from collections.abc import Iterator

import numpy as np

from cpgg_hf.errors import PhenotypeError
from cpgg_hf.phenotypes.schema import NAMES, PHENOTYPES, Phenotype

# unit -> (unit that was probably meant, factor from that unit to ours)
_MISTAKEN_UNITS: dict[str, tuple[tuple[str, float], ...]] = {
    "mL": (("L", 1e3), ("m^3", 1e6), ("uL", 1e-3)),
    "%": (("a fraction", 1e2),),
    "L/min": (("mL/min", 1e-3), ("m^3/min", 1e3)),
    "g": (("kg", 1e3), ("mg", 1e-3)),
    "mm": (("cm", 1e1), ("m", 1e3), ("um", 1e-3)),
    "mm2": (("cm^2", 1e2), ("m^2", 1e6)),
    "1e-3/mmHg": (("1/mmHg", 1e3),),
}
_STRAIN_GROUPS = tuple(
    np.array(
        [index for index, name in enumerate(NAMES) if name.startswith(family) and name.endswith("Global") == whole]
    )
    for family in ("Ecc_", "Err_", "Ell_")
    for whole in (False, True)
)
_MINIMUM = np.array([phenotype.minimum for phenotype in PHENOTYPES])
_MAXIMUM = np.array([phenotype.maximum for phenotype in PHENOTYPES])


def _describe(column: int, value: float) -> str:
    """`LVEF = 0.55 % (plausible: 5 to 90 %)`."""
    phenotype = PHENOTYPES[column]
    limits = f"plausible: {phenotype.minimum:g} to {phenotype.maximum:g} {phenotype.unit}"
    return f"{phenotype.short_name} = {value:.6g} {phenotype.unit} ({limits})"


def find_unit_errors(array: np.ndarray) -> Iterator[str]:
    """A sentence, with the row, for every value of (B, 82) phenotypes whose magnitude shows a wrong unit."""
    # Strains may be slightly beyond zero; everything else positive has a sign error or a unit error below half.
    below = np.where(_MINIMUM > 0, _MINIMUM / 2, np.where(_MINIMUM == 0, 0, 2 * _MINIMUM))
    above = np.where(_MAXIMUM > 0, 2 * _MAXIMUM, 1)
    for row, column in np.argwhere((array < below) | (array > above)).tolist():
        remedy = _remedy(PHENOTYPES[column], float(array[row, column]))
        if remedy:
            yield f"row {row}: {_describe(column, array[row, column])} {remedy}."
    # One nearly still segment is a scar; a whole table of strains below 1 % is a table of fractions.
    for columns in _STRAIN_GROUPS:
        given = array[:, columns]
        present = np.isfinite(given) & (given != 0)
        if present.any() and np.all(np.abs(given[present]) <= 1):
            row, position = np.argwhere(present)[0]
            text = _describe(columns[position], given[row, position])
            yield f"row {row}: {text} looks like a fraction; multiply by 100 to give it in %."


def _remedy(phenotype: Phenotype, value: float) -> str:
    for unit, factor in _MISTAKEN_UNITS[phenotype.unit]:
        if phenotype.minimum <= value * factor <= phenotype.maximum:
            return f"looks like {unit}; multiply by {factor:g} to give it in {phenotype.unit}"
    if phenotype.minimum >= 0 > value:
        return "cannot be negative; correct it, or leave it out (NaN) if it is missing"
    if phenotype.minimum <= -value <= phenotype.maximum:
        return "has the wrong sign; give strains that shorten (Ecc, Ell) as negative, all others as positive values"
    if value > 10 * phenotype.maximum or value < phenotype.minimum / 10:
        return f"has the wrong magnitude; give it in {phenotype.unit}, or leave it out (NaN) if it is missing"
    return ""


def check_magnitudes(array: np.ndarray) -> None:
    """Raise `PhenotypeError` for the first value of (B, 82) `array` that is infinite or in the wrong unit."""
    for row, column in np.argwhere(np.isinf(array)):
        text = _describe(column, array[row, column])
        raise PhenotypeError(f"row {row}: {text} is not finite; give missing values as NaN.")
    for sentence in find_unit_errors(array):
        raise PhenotypeError(sentence)
