"""The seed of every generated cine: it depends on the run's seed, the split, the cine's index and the attempt only."""

from cpgg_hf.dataset import SPLITS
from cpgg_hf.shards import derive_seed


def sample_seed(seed: int, split: str, index: int, attempt: int = 1) -> int:
    """The seed (0 to 2^63 - 1) of attempt `attempt` (1, 2, ...) at cine `index` of a split."""
    return derive_seed(seed, SPLITS.index(split), index, attempt)
