"""Balanced SSFP signal: tissue contrast from T1, T2, proton density and flip angle.

Steady state at TE = TR / 2 with TR much shorter than T2 (Scheffler and Lehnhardt, Eur Radiol 2003, equation 3):
S = PD sin(alpha) / ((T1 / T2 + 1) - cos(alpha) (T1 / T2 - 1)).
"""

import numpy as np

from cpgg_hf.phantom.scanner import Scanner


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


def tissue_signals(rng: np.random.Generator, scanner: Scanner) -> dict[str, float]:
    """Draw one scan's tissue signals: the flip angle varies by 10 degrees, relaxation times by a few per cent.

    Returns:
        Signal of each tissue, with blood near the scanner's `blood_level`.
    """
    flip_angle = np.deg2rad(scanner.flip_angle + 4.5 * np.clip(rng.standard_normal(), -2.2, 2.2))
    scores = np.clip(rng.standard_normal((len(scanner.tissues), 2)), -2, 2)
    signals = {
        name: bssfp_signal(t1 * (1 + 0.04 * a), t2 * (1 + 0.06 * b), density, flip_angle)
        for (name, (t1, t2, density)), (a, b) in zip(scanner.tissues.items(), scores, strict=True)
    }
    level = (scanner.blood_level + 0.035 * np.clip(rng.standard_normal(), -2, 2)) / signals["blood"]
    return {name: level * value for name, value in signals.items()}
