"""Balanced SSFP signal: tissue contrast from T1, T2, proton density and flip angle.

Steady state at TE = TR / 2 with TR much shorter than T2 (Scheffler and Lehnhardt, Eur Radiol 2003, equation 3):
S = PD sin(alpha) / ((T1 / T2 + 1) - cos(alpha) (T1 / T2 - 1)).
"""

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


def tissue_signals(rng: np.random.Generator) -> dict[str, float]:
    """Draws one scan's tissue signals: flip angle 52 to 72 degrees, relaxation times varied by a few per cent.

    Returns:
        Signal of each tissue, with blood near 0.74 of the display range.
    """
    flip_angle = np.deg2rad(62 + 4.5 * np.clip(rng.standard_normal(), -2.2, 2.2))
    scores = np.clip(rng.standard_normal((len(TISSUES), 2)), -2, 2)
    signals = {
        name: bssfp_signal(t1 * (1 + 0.04 * a), t2 * (1 + 0.06 * b), density, flip_angle)
        for (name, (t1, t2, density)), (a, b) in zip(TISSUES.items(), scores, strict=True)
    }
    level = (0.74 + 0.035 * np.clip(rng.standard_normal(), -2, 2)) / signals["blood"]
    return {name: level * value for name, value in signals.items()}
