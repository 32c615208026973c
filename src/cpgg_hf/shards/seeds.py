"""The one function that derives seeds, from a root seed, a named domain and numbers."""

import hashlib
from operator import index

import numpy as np


def derive_seed(*parts: int | str) -> int:
    """A seed from 0 to 2^63 - 1.

    New code names its domain (`derive_seed(seed, "pose", index)`), so that different parts give unrelated seeds. Only
    numbers give numpy's `SeedSequence`, from which existing data sets were drawn; it does not distinguish (1,) from
    (1, 0), so every caller passes a fixed number of parts.

    Args:
        parts: names, and numbers of at least 0.

    Raises:
        ValueError: a negative number.
    """
    parts = tuple(part if isinstance(part, str) else index(part) for part in parts)  # numpy's integers are numbers too
    if any(isinstance(part, int) and part < 0 for part in parts):
        raise ValueError(f"the numbers of a seed must be at least 0, given {parts}.")
    if all(isinstance(part, int) for part in parts):
        return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)  # type: ignore[arg-type]
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little") >> 1
