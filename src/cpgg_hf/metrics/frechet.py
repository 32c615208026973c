"""Frechet distance between two sets of cines in a feature space, and its floor among reference cines.

Heusel 2017 (FID), equation 6; with a cine's features it takes the place of the paper's FID and FVD (Table 1). The
distance of two finite sets from one population is not 0 but falls like 1 / N: compare a figure with the floor of as
many reference cines against as many other ones, and only at the same N, size and network.
"""

from dataclasses import dataclass

import numpy as np

from cpgg_hf.metrics.features import FeatureSet, ensure_same_space


@dataclass(frozen=True)
class FrechetResult:
    """Frechet distance of generated to reference cines; comparable only at equal counts, sizes, network and seed.

    Attributes:
        distance: generated against reference cines, `num_cines` each.
        floor: reference against other reference cines, `num_cines` each.
        ratio: distance / floor; about 1 when generated and reference cines are indistinguishable.
        num_cines, num_frames, size, network: cines on each side, their frames, (height, width), network hash.
        seed: selects the reference cines of each side.
    """

    distance: float
    floor: float
    ratio: float
    num_cines: int
    num_frames: int
    size: tuple[int, int]
    network: str
    seed: int


def gaussian_frechet_distance(
    mean_a: np.ndarray, covariance_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray
) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2) for means (F,) and covariances (F, F).

    The symmetric form needs eigenvalues of symmetric matrices only, so singular covariances (fewer cines than
    features) are handled.
    """
    values, vectors = np.linalg.eigh(covariance_a)
    root_a = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    cross = np.linalg.eigvalsh(root_a @ covariance_b @ root_a)
    trace = np.trace(covariance_a) + np.trace(covariance_b) - 2.0 * np.sqrt(np.clip(cross, 0.0, None)).sum()
    # Rounding may leave the trace term of identical sets slightly below 0.
    return float(np.sum((mean_a - mean_b) ** 2) + max(trace, 0.0))


def frechet_distance(a: FeatureSet, b: FeatureSet) -> float:
    """Frechet distance between two feature sets with equal numbers of cines.

    Raises:
        ValueError: if the sets differ in network, frames, size or number of cines, or hold fewer than 2.
    """
    ensure_same_space(a, b)
    if a.num_cines != b.num_cines or a.num_cines < 2:
        raise ValueError(
            f"Frechet distance between {a.num_cines} and {b.num_cines} cines; its bias depends on the number: "
            "give equal numbers, at least 2 (FeatureSet.take)."
        )
    moments = [(s.values.mean(axis=0), np.cov(s.values, rowvar=False)) for s in (a, b)]
    return gaussian_frechet_distance(*moments[0], *moments[1])


def frechet_with_floor(generated: FeatureSet, reference: FeatureSet, seed: int = 0) -> FrechetResult:
    """Generated against reference cines, and reference against other reference cines, with N cines each.

    Args:
        generated: N cines.
        reference: at least 2 N cines; `seed` draws N to compare with and N disjoint ones for the floor.
        seed: seed of that draw.

    Raises:
        ValueError: fewer than 2 N reference cines, identical ones, or sets from different networks or grids.
    """
    compared, others = reference.split(generated.num_cines, seed)
    distance, floor = frechet_distance(generated, compared), frechet_distance(others, compared)
    if floor == 0.0:
        raise ValueError("the reference cines are identical (floor 0); give distinct ones.")
    return FrechetResult(
        distance=distance,
        floor=floor,
        ratio=distance / floor,
        num_cines=generated.num_cines,
        num_frames=generated.num_frames,
        size=generated.size,
        network=generated.network,
        seed=seed,
    )
