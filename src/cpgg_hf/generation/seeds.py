"""The seed of every cine: it follows from the run's seed, the split, the cine's index and its attempt alone."""

import numpy as np

from cpgg_hf.dataset import SPLITS


def sample_seed(seed: int, split: str, index: int, attempt: int = 1) -> int:
    """What attempt `attempt` (1, 2, ...) at cine `index` of a split is drawn from; 0 to 2^63 - 1."""
    sequence = np.random.SeedSequence([seed, SPLITS.index(split), index, attempt])
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)
