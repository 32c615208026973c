"""PSNR and SSIM of a cine against its reference, as in model cards and training logs."""

from collections.abc import Iterable

import numpy as np

from cpgg_hf.metrics.cines import Pixels, unit_pixels

# Wang 2004's window, 11 pixels wide, sd 1.5: 99% of it lies within 8 pixels (14 mm at 1.8 mm), so it suits 96x96.
SSIM_WINDOW = 11
SSIM_SD = 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03


def _pairs(cines: Iterable[Pixels], references: Iterable[Pixels]):
    for index, (cine, reference) in enumerate(zip(unit_pixels(cines), unit_pixels(references), strict=True)):
        if cine.shape != reference.shape:
            raise ValueError(
                f"cine {index} has shape {cine.shape}, its reference {reference.shape}; give equal shapes."
            )
        yield cine.astype(np.float64), reference.astype(np.float64)


def psnr(cines: Iterable[Pixels], references: Iterable[Pixels]) -> np.ndarray:
    """Peak signal-to-noise ratio per cine in dB, peak 1: -10 log10 of the mean squared error over the cine.

    Args:
        cines: N `Cine` objects or arrays (T, H, W), uint8 or float in [0, 1].
        references: as many, of the same shapes.

    Returns:
        (N,) float64; infinite for identical cines.
    """
    with np.errstate(divide="ignore"):
        return np.array([-10.0 * np.log10(np.mean((a - b) ** 2)) for a, b in _pairs(cines, references)])


def ssim(cines: Iterable[Pixels], references: Iterable[Pixels]) -> np.ndarray:
    """Structural similarity per cine (Wang 2004), mean over frames and over pixels whose window lies inside the frame.

    Args:
        cines: N `Cine` objects or arrays (T, H, W), uint8 or float in [0, 1], frames of at least 11x11.
        references: as many, of the same shapes.

    Returns:
        (N,) float64 in [-1, 1].
    """
    return np.array([_ssim(a, b) for a, b in _pairs(cines, references)])


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.ndimage import correlate1d

    half = SSIM_WINDOW // 2
    if min(a.shape[1:]) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM needs frames of at least {SSIM_WINDOW}x{SSIM_WINDOW}, given {a.shape[1]}x{a.shape[2]}."
        )
    window = np.exp(-0.5 * (np.arange(-half, half + 1) / SSIM_SD) ** 2)
    window /= window.sum()

    def smooth(x: np.ndarray) -> np.ndarray:
        x = correlate1d(correlate1d(x, window, axis=1), window, axis=2)
        return x[:, half:-half, half:-half]

    mean_a, mean_b = smooth(a), smooth(b)
    variance_a, variance_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return float(np.mean(luminance * structure))
