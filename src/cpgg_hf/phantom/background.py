"""The surroundings of the heart in a four-chamber view: lungs, chest wall, liver, spine. Static over the cycle."""

import numpy as np

from cpgg_hf.phantom.rasterise import pixel_coordinates


def _soft(distance_mm: np.ndarray, edge_mm: float) -> np.ndarray:
    return np.clip(distance_mm / edge_mm + 0.5, 0.0, 1.0)


def body_background(signals: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """Draw one subject's background.

    The chest wall crosses the upper edge (anterior), the liver fills the left edge (the patient's right), the spine
    stands at the lower edge; the rest is lung with a few vessels.

    Args:
        signals: Tissue signals of the scan.
        rng: Source of the body's shape.

    Returns:
        (96, 96) float32.
    """
    grid = pixel_coordinates()
    x, y = grid[None, :], grid[:, None]

    def bounded(mean: float, sd: float) -> float:
        return mean + sd * float(np.clip(rng.standard_normal(), -2, 2))

    image = np.full((len(grid), len(grid)), signals["lung"], dtype=np.float32)

    def paint(coverage: np.ndarray, signal: float) -> None:
        np.add(image, coverage * (signal - image), out=image)

    # A few vessels brighten the lungs.
    for _ in range(5):
        angle, radius = rng.uniform(-0.6, 2.4), rng.uniform(66, 100)
        centre_x, centre_y = radius * np.cos(angle), radius * np.sin(angle)
        spot = np.exp(-0.5 * ((x - centre_x) ** 2 + (y - centre_y) ** 2) / rng.uniform(2.0, 4.0) ** 2)
        paint(0.5 * spot.astype(np.float32), 0.55 * signals["blood"])

    # Chest wall: a large circle's rim, a layer of fat before the muscle.
    radius = bounded(150, 10)
    lean = bounded(0.30, 0.10)
    wall = bounded(-71, 4)
    depth = np.hypot(x - radius * np.sin(lean) * 0.4, y - (wall + radius)) - radius
    paint(_soft(depth, 4.0), bounded(0.75, 0.06) * signals["fat"])
    paint(_soft(depth - bounded(11, 2), 6.0), signals["muscle"])

    # Liver: an ellipse that enters from the left.
    centre_x, centre_y = bounded(-112, 6), bounded(-22, 9)
    liver = 1 - np.hypot((x - centre_x) / bounded(48, 4), (y - centre_y) / bounded(52, 5))
    paint(_soft(45 * liver, 4.0), signals["liver"])

    # Spine: a vertebral body with fat around it, low and left of the aorta.
    centre_x, centre_y = bounded(-26, 5), bounded(92, 4)
    reach = np.hypot((x - centre_x) / 25, (y - centre_y) / 19)
    paint(_soft(22 * (1.35 - reach), 6.0), 0.75 * signals["muscle"])
    paint(_soft(22 * (1.0 - reach), 4.0), signals["bone"])
    return image
