"""A report on a phenotype table: rows that break an identity, leave the plausible range or are impossible.

`validate` never raises for a value; it lists findings. Harmless ones (a residual within rounding) are notes, all
others violations.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cpgg_hf.phenotypes.identities import (
    AORTAS,
    CHAMBERS,
    DERIVED_INDICES,
    EXACT,
    disagreements,
    heart_rate,
    pulse_pressure,
)
from cpgg_hf.phenotypes.schema import NAMES, PHENOTYPES
from cpgg_hf.phenotypes.tables import parse_table
from cpgg_hf.phenotypes.units import describe, find_unit_errors

HEART_RATE_RANGE = (30.0, 180.0)
PULSE_PRESSURE_RANGE = (10.0, 150.0)

Kind = Literal["identity", "range", "magnitude", "order", "heart_rate", "pulse_pressure"]


@dataclass(frozen=True)
class Finding:
    """One finding: its row, its column (or `heart_rate`, `pulse_pressure`), the value, and a sentence about it."""

    row: int
    column: str
    value: float
    kind: Kind
    violation: bool
    message: str


@dataclass(frozen=True)
class ValidationReport:
    """The result of `validate`.

    Attributes:
        phenotypes: (B, 82) the table as it was read.
        findings: violations and notes.
        identity_residuals: (B, 9) given minus recomputed, in the order of `DERIVED_INDICES`; NaN where undetermined.
        heart_rate: (B,) implied, in beats per minute.
        pulse_pressure: (B,) implied, in mmHg.
    """

    phenotypes: np.ndarray
    findings: tuple[Finding, ...]
    identity_residuals: np.ndarray
    heart_rate: np.ndarray
    pulse_pressure: np.ndarray

    @property
    def violations(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.violation)

    @property
    def notes(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.violation)

    @property
    def ok(self) -> bool:
        return not self.violations

    def __str__(self) -> str:
        rows = len(self.phenotypes)
        head = f"{rows} row{'s' * (rows != 1)}: {len(self.violations)} violation(s), {len(self.notes)} note(s)"
        lines = [
            f"{'violation' if finding.violation else 'note'}, row {finding.row}: {finding.message}"
            for finding in sorted(self.findings, key=lambda finding: (not finding.violation, finding.row))
        ]
        return "\n".join([head, *lines])


def validate(table: Any) -> ValidationReport:
    """Check phenotypes and report.

    Args:
        table: anything `as_array` reads; values of the wrong magnitude are reported here instead of raised.

    Raises:
        PhenotypeError: the table cannot be read at all (unknown columns, wrong shape, text for numbers).
    """
    array = parse_table(table)
    residuals, tolerances = disagreements(array)
    rates, pressures = heart_rate(array), pulse_pressure(array)
    findings = [
        *_magnitudes_and_ranges(array),
        *_identities(array, residuals, tolerances),
        *_orders(array),
        *_implied("heart_rate", "heart rate 1000 LVCO / LVSV", "bpm", rates, HEART_RATE_RANGE),
        *_implied("pulse_pressure", "pulse pressure", "mmHg", pressures, PULSE_PRESSURE_RANGE),
    ]
    return ValidationReport(array, tuple(findings), residuals, rates, pressures)


def _magnitudes_and_ranges(array: np.ndarray) -> list[Finding]:
    findings = [
        Finding(row, NAMES[column], array[row, column], "magnitude", True, sentence)
        for row, column, sentence in find_unit_errors(array)
    ]
    explained = {(finding.row, finding.column) for finding in findings}
    minimum = np.array([phenotype.minimum for phenotype in PHENOTYPES])
    maximum = np.array([phenotype.maximum for phenotype in PHENOTYPES])
    for row, column in np.argwhere((array < minimum) | (array > maximum)):
        if (row, NAMES[column]) not in explained:
            message = f"{describe(PHENOTYPES[column], array[row, column])}: outside the plausible range"
            findings.append(Finding(int(row), NAMES[column], array[row, column], "range", True, message))
    return findings


def _identities(array: np.ndarray, residuals: np.ndarray, tolerances: np.ndarray) -> list[Finding]:
    findings = []
    for row, identity in np.argwhere(np.abs(residuals) > EXACT * np.abs(array[:, DERIVED_INDICES])).tolist():
        phenotype, residual = PHENOTYPES[DERIVED_INDICES[identity]], residuals[row, identity]
        value = array[row, DERIVED_INDICES[identity]]
        violation = bool(abs(residual) > tolerances[row, identity])
        verdict = "a violation" if violation else "within rounding"
        message = (
            f"{phenotype.short_name} = {value:.6g} {phenotype.unit} differs by {residual:+.3g} from what its identity"
            f" gives ({value - residual:.6g}): {verdict}"
        )
        findings.append(Finding(row, phenotype.short_name, value, "identity", violation, message))
    return findings


def _orders(array: np.ndarray) -> list[Finding]:
    findings = []
    for largest, smallest in [group[:2] for group in (*CHAMBERS, *AORTAS)]:
        for row in np.flatnonzero(array[:, smallest] >= array[:, largest]):
            message = (
                f"{NAMES[smallest]} = {array[row, smallest]:.6g} is not below"
                f" {NAMES[largest]} = {array[row, largest]:.6g} {PHENOTYPES[largest].unit}"
            )
            findings.append(Finding(int(row), NAMES[smallest], array[row, smallest], "order", True, message))
    return findings


def _implied(kind: Kind, name: str, unit: str, values: np.ndarray, limits: tuple[float, float]) -> list[Finding]:
    return [
        Finding(
            int(row),
            kind,
            values[row],
            kind,
            True,
            f"implied {name} = {values[row]:.4g} {unit} (plausible: {limits[0]:g} to {limits[1]:g} {unit})",
        )
        for row in np.flatnonzero((values < limits[0]) | (values > limits[1]))
    ]
