"""Volume curves over one RR: when the heart contracts and fills.

The end of systole follows Weissler's regression of electromechanical systole on heart rate (QS2 = 546 - 2.1 HR ms);
filling is an early wave, diastasis and an atrial kick.
"""

from dataclasses import dataclass

import numpy as np

from cpgg_hf.grid import NUM_FRAMES


@dataclass(frozen=True)
class CycleCurves:
    """Contraction and reservoir curves of one cycle, each (50,) in [0, 1].

    Attributes:
        ventricle: 0 at end diastole (frame 0), exactly 1 at `end_systole`.
        atrium: 0 at frame 0 (smallest atrium), exactly 1 at `end_systole` (largest).
        aorta: 0 at the smallest aortic area, exactly 1 at the largest.
        inflow: Early and late filling speed, 0 to 1; brightens inflowing blood.
        end_systole: Frame of the smallest ventricle.
    """

    ventricle: np.ndarray
    atrium: np.ndarray
    aorta: np.ndarray
    inflow: np.ndarray
    end_systole: int


def _smooth_step(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def cycle_curves(heart_rate: float, early_share: float, atrial_early_share: float) -> CycleCurves:
    """The curves of one subject.

    Args:
        heart_rate: Beats per minute.
        early_share: Share of ventricular filling that is early (the rest is the atrial kick), 0 to 1.
        atrial_early_share: Share of atrial emptying before the kick, 0 to 1.
    """
    systolic_share = np.clip((546.0 - 2.1 * heart_rate) * heart_rate / 60000.0, 0.30, 0.54)
    end_systole = round(float(systolic_share) * NUM_FRAMES)
    frames = np.arange(NUM_FRAMES)
    systole = np.clip(frames / end_systole, 0.0, 1.0)
    diastole = np.clip((frames - end_systole) / (NUM_FRAMES - end_systole), 0.0, 1.0)
    early = _smooth_step((diastole - 0.03) / 0.42)
    late = _smooth_step((diastole - 0.70) / 0.30)
    in_systole = frames <= end_systole
    ejected = 0.5 - 0.5 * np.cos(np.pi * systole**1.15)
    filled = early_share * early + (1 - early_share) * late
    reservoir = 0.5 - 0.5 * np.cos(np.pi * systole)
    emptied = atrial_early_share * early + (1 - atrial_early_share) * late
    pulse = np.exp(-0.5 * ((frames - 0.55 * end_systole) / (0.35 * end_systole)) ** 2)
    pulse += 0.35 * np.exp(-0.5 * ((frames - 1.25 * end_systole) / (0.5 * end_systole)) ** 2)
    pulse = (pulse - pulse.min()) / (pulse.max() - pulse.min())
    ventricle = np.where(in_systole, ejected, 1.0 - filled)
    inflow = np.clip(-np.gradient(ventricle), 0.0, None)
    return CycleCurves(
        ventricle=ventricle,
        atrium=np.where(in_systole, reservoir, 1.0 - emptied),
        aorta=pulse,
        inflow=inflow / max(float(inflow.max()), 1e-6),
        end_systole=end_systole,
    )
