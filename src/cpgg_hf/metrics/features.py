"""A fixed random network of 64 features for cines, and the interface of any other one.

FID and FVD (the paper's Table 1) use networks trained on photographs and sports videos. Three layers of fixed random
orthonormal filters, in space and time, replace them: no training, no download, equal weights everywhere. They detect
the typical faults of generated cines (seams, blur, noise, shaking, misplaced anatomy, wrong motion) but not disease.
Distances are comparable only with each other, never with a published FID or FVD.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cpgg_hf.metrics.cines import Pixels, iterate_batches

VERSION = "cpgg-random-features-1"
SEED = 2505
# Output channels, kernel and stride (time, rows, columns) of the three layers.
LAYERS = (
    (16, (3, 5, 5), (1, 2, 2)),
    (32, (3, 3, 3), (2, 2, 2)),
    (64, (3, 3, 3), (2, 2, 2)),
)
LAYOUT_CELLS, LAYOUT_PHASES, RESPONSE_CELLS = 6, 10, 3
FEATURES_PER_BLOCK = 8
# Total standard deviation of each block over 300 cines of the phantom's population (version 1); dividing by it gives
# each kind of feature equal weight in a distance.
BLOCK_SCALES = {
    "layout": 0.24,
    "motion": 0.051,
    "mean_1": 0.33,
    "fluctuation_1": 0.05,
    "mean_2": 0.53,
    "fluctuation_2": 0.048,
    "mean_3": 1.25,
    "fluctuation_3": 0.134,
}


class FeatureExtractor(Protocol):
    """The interface of a feature network, such as an I3D or a segmenter's encoder.

    Attributes:
        identity: a name or hash that changes whenever the features would.
        num_features: F.
    """

    identity: str
    num_features: int

    def __call__(self, cines: np.ndarray) -> np.ndarray:
        """Cines (B, T, H, W), float32 in [0, 1] -> features (B, F)."""
        ...


@dataclass(frozen=True)
class FeatureSet:
    """Features of a set of cines, and their origin.

    Attributes:
        values: (N, F) float64.
        network: the extractor's identity.
        num_frames: T of the cines.
        size: (H, W) of the cines.
    """

    values: np.ndarray
    network: str
    num_frames: int
    size: tuple[int, int]

    @property
    def num_cines(self) -> int:
        return len(self.values)

    def take(self, indices: np.ndarray) -> "FeatureSet":
        """The features of the cines at `indices`."""
        return FeatureSet(self.values[indices], self.network, self.num_frames, self.size)

    def split(self, num_cines: int, seed: int) -> tuple["FeatureSet", "FeatureSet"]:
        """Two disjoint sets of `num_cines` each, drawn by `seed`; ValueError if there are fewer than twice as many."""
        if self.num_cines < 2 * num_cines:
            raise ValueError(
                f"{num_cines} generated cines need {2 * num_cines} reference cines (half for the distance, half for "
                f"the floor), given {self.num_cines}; give more reference cines or fewer generated ones."
            )
        order = np.random.default_rng(seed).permutation(self.num_cines)
        return self.take(order[:num_cines]), self.take(order[num_cines : 2 * num_cines])


def ensure_same_space(a: FeatureSet, b: FeatureSet) -> None:
    """Raise ValueError unless both sets come from one network and from cines of as many frames and one size."""
    for name in ("network", "num_frames", "size"):
        if getattr(a, name) != getattr(b, name):
            raise ValueError(
                f"features with {name} {getattr(a, name)} and {getattr(b, name)} cannot be compared; extract both "
                "with one network from cines on one grid."
            )


def extract_features(cines: Iterable[Pixels], extractor: FeatureExtractor, batch_size: int = 2) -> FeatureSet:
    """Features of cines, a batch at a time.

    Args:
        cines: `Cine` objects or arrays (T, H, W), uint8 or float in [0, 1], N of one shape.
        extractor: such as `RandomFeatureNetwork()`.
        batch_size: cines at once; small ones stay in the cache and are fastest on CPU.

    Raises:
        ValueError: for no cines, cines of different shapes, values outside [0, 1], or features that are not finite.
    """
    values, shape = [], (0, 0, 0)
    for batch in iterate_batches(cines, batch_size):
        shape = batch.shape[1:]
        values.append(np.asarray(extractor(batch), dtype=np.float64))
    if not values:
        raise ValueError("no cines were given; give at least one.")
    features = np.concatenate(values)
    if not np.isfinite(features).all():
        raise ValueError(f"extractor {extractor.identity} returned features that are not finite; check the extractor.")
    return FeatureSet(features, extractor.identity, shape[0], (shape[1], shape[2]))


class RandomFeatureNetwork:
    """Cines (B, T, H, W) in [0, 1] -> 64 features, 8 from each of 8 blocks.

    - layout: brightness over the cycle in 6x6 cells (where the anatomy lies);
    - motion: how each cell departs from that in 10 phases of the cycle (how much, and when, it moves);
    - mean_1..3: mean response |filter| of a layer in 3x3 cells (texture, edges, seams, from fine to coarse);
    - fluctuation_1..3: its standard deviation over time (motion, shaking, flicker).

    A layer convolves (the cycle closed in time, edges repeated in space) with orthonormal filters, the first of them
    the plain mean, so that the others ignore it, and takes absolute values. Each block is then projected onto 8
    random orthonormal directions and divided by its `BLOCK_SCALES`. Random projection keeps the ratio of two
    distances in the block, in expectation, and 64 features let a thousand cines estimate a covariance.

    Attributes:
        identity: SHA-256 of the version and all weights and constants.
        num_features: 64.
    """

    num_features = FEATURES_PER_BLOCK * len(BLOCK_SCALES)

    def __init__(self):
        # NumPy guarantees the stream of RandomState across versions, not that of Generator.
        stream = np.random.RandomState(SEED)
        self._filters, num_inputs = [], 1
        lengths = [LAYOUT_CELLS**2, LAYOUT_PHASES * LAYOUT_CELLS**2]
        for num_outputs, kernel, _ in LAYERS:
            filters = _orthonormal_rows(stream, num_outputs, num_inputs * math.prod(kernel), with_mean=True)
            self._filters.append(filters.reshape(num_outputs, num_inputs, *kernel))
            lengths += [num_outputs * RESPONSE_CELLS**2] * 2
            num_inputs = num_outputs
        self._projections = {
            name: _orthonormal_rows(stream, FEATURES_PER_BLOCK, length, with_mean=False)
            for name, length in zip(BLOCK_SCALES, lengths, strict=True)
        }
        self.identity = self._hash()

    def __call__(self, cines: np.ndarray) -> np.ndarray:
        """Cines (B, T, H, W), float32 in [0, 1], at least 12 frames of 32x32 -> features (B, 64) float64."""
        import torch
        from torch.nn import functional

        if cines.ndim != 4 or cines.shape[1] < 12 or min(cines.shape[2:]) < 32:
            raise ValueError(f"cines of shape {cines.shape}; expected (batch, frames >= 12, height and width >= 32).")
        with torch.inference_mode():
            maps = torch.from_numpy(np.ascontiguousarray(cines, dtype=np.float32))[:, None]  # (B, 1, T, H, W)
            cells = functional.adaptive_avg_pool3d(maps, (LAYOUT_PHASES, LAYOUT_CELLS, LAYOUT_CELLS))
            layout = cells.mean(dim=2, keepdim=True)
            pooled = [layout, cells - layout]
            for filters, (_, kernel, stride) in zip(self._filters, LAYERS, strict=True):
                time, rows, columns = (width // 2 for width in kernel)
                maps = torch.cat([maps[:, :, -time:], maps, maps[:, :, :time]], dim=2)
                maps = functional.pad(maps, (columns, columns, rows, rows, 0, 0), mode="replicate")
                maps = functional.conv3d(maps, torch.from_numpy(filters), stride=stride).abs()  # (B, C, T', H', W')
                for response in (maps.mean(dim=2), maps.std(dim=2, correction=0)):
                    pooled.append(functional.adaptive_avg_pool2d(response, RESPONSE_CELLS))
            blocks = [block.flatten(1).double().numpy() for block in pooled]
        return np.concatenate(
            [
                block @ self._projections[name].T.astype(np.float64) / scale
                for block, (name, scale) in zip(blocks, BLOCK_SCALES.items(), strict=True)
            ],
            axis=1,
        )

    def _hash(self) -> str:
        digest = hashlib.sha256(repr((VERSION, LAYERS, LAYOUT_CELLS, LAYOUT_PHASES, RESPONSE_CELLS)).encode())
        digest.update(repr(BLOCK_SCALES).encode())
        for weights in (*self._filters, *self._projections.values()):
            digest.update(repr(weights.shape).encode())
            digest.update(weights.astype("<f4").tobytes())
        return digest.hexdigest()


def _orthonormal_rows(stream: np.random.RandomState, num_rows: int, length: int, with_mean: bool) -> np.ndarray:
    """(num_rows, length) float32; with_mean: the first row is constant, and the others sum to 0."""
    columns = stream.standard_normal((length, num_rows))
    if with_mean:
        columns[:, 0] = 1.0
    basis, triangle = np.linalg.qr(columns)
    rows = (basis * np.sign(np.diag(triangle))).T
    # On a grid of 2^-16, exact in float32, so that the last bit of another LAPACK does not change the hash.
    return (np.round(rows * 2.0**16) / 2.0**16).astype(np.float32)
