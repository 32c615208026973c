"""The phantom's cine: outlines painted with tissue signals, then imaged.

Order of the physics: tissue signals (`scanner.py`), partial volume at the edges (`rasterise.py`), inflow brightening,
coil shading, truncation of k-space (finite resolution with a mild filter), Rician noise of a scan whose phases are
interpolated to 50 frames.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import convolve1d, zoom

from cpgg_hf.cine import Cine
from cpgg_hf.errors import PhenotypeError
from cpgg_hf.grid import GRID_SIZE, NUM_FRAMES, SPACING_MM
from cpgg_hf.phantom.background import body_background
from cpgg_hf.phantom.geometry import Anatomy, HeartOutlines, heart_outlines
from cpgg_hf.phantom.rasterise import StarShape, pixel_coordinates
from cpgg_hf.phantom.scanner import SCANNER_1_5T, Scanner
from cpgg_hf.phantom.volume_curves import CycleCurves, cycle_curves
from cpgg_hf.phenotypes import NAMES, heart_rate

RENDERER_VERSION = 1
LABELS = {
    "background": 0,
    "LV cavity": 1,
    "LV myocardium": 2,
    "RV cavity": 3,
    "LA": 4,
    "RA": 5,
    "descending aorta": 6,
}
_ACQUIRED_PHASES = 25


@dataclass(frozen=True)
class PhantomHeart:
    """One phantom heart, imaged, with its exact truth.

    Attributes:
        cine: (50, 96, 96) uint8, frame 0 at end diastole, with the exact phenotypes.
        labels: (50, 96, 96) uint8, values of `LABELS`, by pixel centre.
        end_systole: frame of the smallest LV.
        outlines: the outlines in mm that the labels were drawn from.
    """

    cine: Cine
    labels: np.ndarray
    end_systole: int
    outlines: HeartOutlines

    @property
    def phenotypes(self) -> np.ndarray:
        """(82,) float64, the exact truth in physical units."""
        return self.cine.phenotypes  # type: ignore[return-value]


def render(phenotypes: np.ndarray, seed: int, scanner: Scanner = SCANNER_1_5T) -> PhantomHeart:
    """Renders one subject.

    Args:
        phenotypes: (82,) complete phenotypes in physical units.
        seed: Seed of everything the phenotypes leave open: anatomy, pose, contrast, noise.
        scanner: That images the heart; the same seed gives the same anatomy on any.

    Returns:
        The cine, its labels and its truth; the same bytes for the same arguments.

    Raises:
        PhenotypeError: If the vector is not (82,) or has missing values.
    """
    phenotypes = np.asarray(phenotypes, dtype=np.float64)
    if phenotypes.shape != (len(NAMES),):
        raise PhenotypeError(f"render takes one subject of shape ({len(NAMES)},), got {phenotypes.shape}")
    if np.isnan(phenotypes).any():
        missing = [NAMES[i] for i in np.flatnonzero(np.isnan(phenotypes))]
        raise PhenotypeError(f"render needs complete phenotypes; missing: {', '.join(missing[:5])}; sample them first")
    rng = np.random.default_rng([RENDERER_VERSION, seed])
    rate = float(heart_rate(phenotypes[None])[0])
    curves = cycle_curves(rate, early_share=rng.uniform(0.58, 0.80), atrial_early_share=rng.uniform(0.45, 0.65))
    anatomy = Anatomy.draw(rng)
    outlines = heart_outlines(phenotypes, curves, anatomy)
    image, labels = _paint(outlines, curves, anatomy, scanner, rng)
    cine = _acquire(image, scanner, rng)
    imaged = Cine(
        pixels=np.rint(255 * cine).astype(np.uint8),
        frame_time_ms=60000.0 / rate / NUM_FRAMES,
        phenotypes=phenotypes,
        view="4ch",
        source="phantom",
        seed=seed,
        data_policy="phantom",
        origin=f"the phantom of seed {seed}",
    )
    return PhantomHeart(imaged, labels, curves.end_systole, outlines)


def _paint(
    outlines: HeartOutlines, curves: CycleCurves, anatomy: Anatomy, scanner: Scanner, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Paints the tissues, farthest first: (50, 96, 96) float32 signal and uint8 labels."""
    signals = scanner.tissue_signals(rng)
    image = np.repeat(body_background(signals, rng)[None], NUM_FRAMES, axis=0)
    labels = np.zeros(image.shape, dtype=np.uint8)
    grow = anatomy.fat_mm + 3.0
    lv_wall, lv = StarShape(outlines.lv_wall, grow), StarShape(outlines.lv_cavity, 2.0)
    rv, la, ra = (StarShape(shape, grow) for shape in (outlines.rv_blob, outlines.la, outlines.ra))
    turns = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=-1)
    aorta = StarShape(outlines.aorta_centre + outlines.aorta_radius[:, None, None] * circle, 3.0)

    blood, myocardium, fat = signals["blood"], signals["myocardium"], signals["fat"]
    inflow = curves.inflow[:, None, None].astype(np.float32)
    inflow_level = {"lv": 1.0, "rv": 1.01, "la": 1.03, "ra": 1.06, "aorta": 0.98}
    brightness = {name: level + 0.035 * np.clip(rng.standard_normal(), -2, 2) for name, level in inflow_level.items()}

    aorta.paint(image, 0.7 * myocardium, aorta.coverage(1.4))
    aorta.paint(image, blood * brightness["aorta"], aorta.coverage())
    aorta.label(labels, LABELS["descending aorta"])
    for shape, reach in ((la, 1.5 + 0.4 * anatomy.fat_mm), (ra, 1.5 + 0.5 * anatomy.fat_mm)):
        shape.paint(image, 0.55 * fat, shape.coverage(reach, 4.0))
    for shape, reach in ((lv_wall, 0.45 * anatomy.fat_mm), (rv, anatomy.rv_wall_mm + anatomy.fat_mm)):
        shape.paint(image, 0.55 * fat, shape.coverage(reach, 4.0))
    rv.paint(image, 1.05 * myocardium, rv.coverage(anatomy.rv_wall_mm, 2.2))
    for shape in (la, ra):
        shape.paint(image, 1.1 * myocardium, shape.coverage(1.8, 2.2))
    la.paint(image, blood * brightness["la"], la.coverage(edge_mm=2.6))
    ra.paint(image, blood * brightness["ra"], ra.coverage(edge_mm=2.6))
    # Coarse trabeculae make the right ventricle's border soft.
    rv.paint(image, blood * brightness["rv"] * (1 + 0.05 * inflow), rv.coverage(edge_mm=3.0))
    lv_wall.paint(image, myocardium, lv_wall.coverage())
    lv.paint(image, blood * brightness["lv"] * (1 + 0.06 * inflow), lv.coverage(edge_mm=2.2))
    for shape, name in ((la, "LA"), (ra, "RA"), (rv, "RV cavity")):
        shape.label(labels, LABELS[name])
    lv_wall.label(labels, LABELS["LV myocardium"])
    lv.label(labels, LABELS["LV cavity"])
    _paint_papillary(image, lv, outlines, myocardium, rng)
    _paint_moderator_band(image, rv, outlines, myocardium, rng)
    for ends in (outlines.mitral, outlines.tricuspid):
        _paint_valve(image, ends, outlines, curves, myocardium)
    return image, labels


def _paint_papillary(
    image: np.ndarray, lv: StarShape, outlines: HeartOutlines, signal: float, rng: np.random.Generator
) -> None:
    """A papillary muscle's faint shadow at mid cavity near the lateral wall; it counts as cavity, as in UK Biobank."""
    level, across = 0.45 + 0.06 * rng.standard_normal(), 0.62 + 0.05 * rng.standard_normal()
    strength = 0.28 + 0.08 * np.clip(rng.standard_normal(), -2, 2)
    centre = (
        outlines.apex
        + outlines.axis * (level * outlines.lv_length)[:, None]
        + outlines.across * (across * outlines.lv_half_width)[:, None]
    ).astype(np.float32)
    x, y = lv.offsets(centre)
    along = x * np.float32(outlines.axis[0]) + y * np.float32(outlines.axis[1])
    aside = x * np.float32(outlines.across[0]) + y * np.float32(outlines.across[1])
    shadow = np.exp(-0.5 * ((along / 8.0) ** 2 + (aside / 2.4) ** 2))
    lv.paint(image, signal, np.float32(strength) * shadow * lv.coverage(-1.0))


def _paint_moderator_band(
    image: np.ndarray, rv: StarShape, outlines: HeartOutlines, signal: float, rng: np.random.Generator
) -> None:
    """A faint band across the right ventricle near its apex; it counts as cavity."""
    level, strength = 0.36 + 0.05 * rng.standard_normal(), 0.26 + 0.08 * np.clip(rng.standard_normal(), -2, 2)
    centre = (outlines.apex + outlines.axis * (level * outlines.lv_length)[:, None]).astype(np.float32)
    direction = outlines.axis + 0.55 * outlines.across
    direction = (direction / np.linalg.norm(direction)).astype(np.float32)
    x, y = rv.offsets(centre)
    shadow = np.exp(-0.5 * ((x * direction[0] + y * direction[1]) / 2.2) ** 2)
    inside_lv = x * np.float32(outlines.across[0]) + y * np.float32(outlines.across[1]) > -outlines.lv_half_width.min()
    rv.paint(image, signal, np.float32(strength) * shadow * rv.coverage(-2.0) * ~inside_lv)


def _paint_valve(
    image: np.ndarray, ends: np.ndarray, outlines: HeartOutlines, curves: CycleCurves, signal: float
) -> None:
    """Two leaflets from the annulus: closed over the annulus in systole, swung into the ventricle in diastole."""
    opening = np.clip(curves.inflow * 1.6, 0, 1)[:, None]
    septal, lateral = ends[:, 0], ends[:, 1]
    middle = 0.5 * (septal + lateral)
    reach = 0.5 * np.linalg.norm(lateral - septal, axis=-1)[:, None]
    into = -outlines.axis[None]
    grid = pixel_coordinates()
    low = np.minimum(septal, lateral).min(axis=0) - 30
    high = np.maximum(septal, lateral).max(axis=0) + 30
    (left, top), (right, bottom) = np.searchsorted(grid, low), np.searchsorted(grid, high)
    x, y = grid[None, None, left:right], grid[None, top:bottom, None]
    view = image[:, top:bottom, left:right]
    for hinge in (septal, lateral):
        closed = 0.97 * (middle - hinge) + 0.10 * reach * into
        opened = 0.30 * (middle - hinge) + 0.75 * reach * into
        leaflet = ((1 - opening) * closed + opening * opened).astype(np.float32)
        from_x, from_y = x - hinge[:, 0, None, None].astype(np.float32), y - hinge[:, 1, None, None].astype(np.float32)
        length = np.maximum((leaflet**2).sum(axis=-1), 1e-3)[:, None, None]
        share = np.clip((from_x * leaflet[:, 0, None, None] + from_y * leaflet[:, 1, None, None]) / length, 0, 1)
        squared = (from_x - share * leaflet[:, 0, None, None]) ** 2 + (from_y - share * leaflet[:, 1, None, None]) ** 2
        view += np.float32(0.36) * np.exp(-0.5 * squared / np.float32(1.0)) * (np.float32(signal) - view)


def _acquire(image: np.ndarray, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Images the signal: coil shading, finite k-space, Rician noise; (50, 96, 96) float32 in [0, 1]."""
    grid = pixel_coordinates() / (GRID_SIZE * SPACING_MM / 2)
    x, y = grid[None, :], grid[:, None]
    slope = 0.05 * np.clip(rng.standard_normal(3), -2, 2) + scanner.coil_shading
    shading = 1 + slope[0] * x + slope[1] * y + slope[2] * (x * x + y * y - 0.6)
    # Slow variation of the signal (field inhomogeneity, steady flow).
    uneven = 0.03 * zoom(np.clip(rng.standard_normal((7, 7)), -2, 2), GRID_SIZE / 7, order=3)
    kernel = _point_spread(rng.uniform(*scanner.resolution_mm))
    image = image * (shading * (1 + uneven)).astype(np.float32)
    image = convolve1d(convolve1d(image, kernel, axis=1, mode="nearest"), kernel, axis=2, mode="nearest")
    sd = scanner.noise_sd * np.exp(0.8 * np.clip(rng.standard_normal(), -2, 2))
    noise = rng.standard_normal((2, _ACQUIRED_PHASES, GRID_SIZE, GRID_SIZE), dtype=np.float32) * np.float32(sd)
    phase = np.arange(NUM_FRAMES) * (_ACQUIRED_PHASES / NUM_FRAMES)
    before, share = phase.astype(int), (phase % 1)[:, None, None].astype(np.float32)
    noise = noise[:, before] * (1 - share) + noise[:, (before + 1) % _ACQUIRED_PHASES] * share
    return np.clip(np.hypot(image + noise[0], noise[1]), 0.0, 1.0)


def _point_spread(resolution_mm: float) -> np.ndarray:
    """The 15-tap response of k-space cut at this resolution: flat below 70% of the band, a cosine fall to its edge."""
    frequency = np.abs(np.fft.fftfreq(GRID_SIZE, SPACING_MM)) * 2 * resolution_mm
    window = 0.5 + 0.5 * np.cos(np.pi * np.clip((frequency - 0.7) / 0.3, 0, 1))
    response = np.fft.fftshift(np.fft.ifft(window).real)
    taps = response[GRID_SIZE // 2 - 7 : GRID_SIZE // 2 + 8]
    return (taps / taps.sum()).astype(np.float32)
