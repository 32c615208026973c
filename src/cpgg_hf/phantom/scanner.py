"""A scanner and its protocol: field strength, flip angle, coils, resolution, noise; and the bSSFP signal of tissues.

Steady state at TE = TR / 2 with TR much shorter than T2 (Scheffler and Lehnhardt, Eur Radiol 2003, equation 3):
S = PD sin(alpha) / ((T1 / T2 + 1) - cos(alpha) (T1 / T2 - 1)).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# (T1 ms, T2 ms, proton density) at 1.5 T; lung and cortical bone have little water.
TISSUES = {
    "blood": (1550.0, 250.0, 1.00),
    "myocardium": (1000.0, 42.0, 0.88),
    "fat": (260.0, 80.0, 0.62),
    "muscle": (880.0, 40.0, 0.85),
    "liver": (590.0, 44.0, 0.80),
    "lung": (1100.0, 45.0, 0.18),
    "bone": (450.0, 55.0, 0.55),
}
# At 3 T: blood, myocardium, muscle, liver from Stanisz 2005 (MRM 54, table 1), fat and marrow from de Bazelaire 2004
# (Radiology 230, table 2); lung is assumed.
TISSUES_3T = {
    "blood": (1932.0, 275.0, 1.00),
    "myocardium": (1471.0, 47.0, 0.88),
    "fat": (382.0, 68.0, 0.62),
    "muscle": (1412.0, 50.0, 0.85),
    "liver": (812.0, 42.0, 0.80),
    "lung": (1270.0, 35.0, 0.18),
    "bone": (586.0, 49.0, 0.55),
}


def bssfp_signal(t1_ms: float, t2_ms: float, proton_density: float, flip_angle: float) -> float:
    """Steady-state bSSFP signal.

    Args:
        t1_ms: Longitudinal relaxation time.
        t2_ms: Transverse relaxation time.
        proton_density: Relative to blood.
        flip_angle: In radians.
    """
    ratio = t1_ms / t2_ms
    cosine = np.cos(flip_angle)
    return float(proton_density * np.sin(flip_angle) / ((ratio + 1) - cosine * (ratio - 1)))


@dataclass(frozen=True)
class Scanner:
    """A scanner and its cine protocol; `SCANNER_1_5T` belongs to the versioned renderer (`RENDERER_VERSION`).

    Attributes:
        tissues: T1 in ms, T2 in ms and proton density of each tissue.
        flip_angle: mean over scans, in degrees.
        blood_level: mean over scans of the blood's brightness, of a display range of 1.
        coil_shading: change of the coils' sensitivity towards the right and lower edges, and from the centre
            outwards (a parabola); means over scans.
        resolution_mm: limits of the acquired resolution.
        noise_sd: median over scans of the noise's deviation in one channel, of a display range of 1.
    """

    tissues: Mapping[str, tuple[float, float, float]]
    flip_angle: float
    blood_level: float
    coil_shading: tuple[float, float, float]
    resolution_mm: tuple[float, float]
    noise_sd: float

    def tissue_signals(self, rng: np.random.Generator) -> dict[str, float]:
        """Draw one scan's signal of each tissue; the flip angle varies by 10 degrees, T1 and T2 by a few per cent."""
        flip_angle = np.deg2rad(self.flip_angle + 4.5 * np.clip(rng.standard_normal(), -2.2, 2.2))
        scores = np.clip(rng.standard_normal((len(self.tissues), 2)), -2, 2)
        signals = {
            name: bssfp_signal(t1 * (1 + 0.04 * a), t2 * (1 + 0.06 * b), density, flip_angle)
            for (name, (t1, t2, density)), (a, b) in zip(self.tissues.items(), scores, strict=True)
        }
        level = (self.blood_level + 0.035 * np.clip(rng.standard_normal(), -2, 2)) / signals["blood"]
        return {name: level * value for name, value in signals.items()}


SCANNER_1_5T = Scanner(
    tissues=TISSUES,
    flip_angle=62.0,
    blood_level=0.74,
    coil_shading=(-0.02, -0.10, 0.0),
    resolution_mm=(1.8, 2.5),
    # From denoised reconstructions to plain ones: blood over noise from about 150 upwards.
    noise_sd=0.001,
)
# A flip angle that the absorbed power allows at 3 T, a surface coil's steep shading, a faster and coarser protocol.
SCANNER_3T = Scanner(
    tissues=TISSUES_3T,
    flip_angle=40.0,
    blood_level=0.66,
    coil_shading=(0.10, -0.24, 0.10),
    resolution_mm=(2.4, 3.1),
    noise_sd=0.003,
)
