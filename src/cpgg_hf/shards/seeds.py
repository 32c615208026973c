"""The one function that derives seeds: what is drawn depends on a root seed and on names and numbers, nothing else."""

import hashlib

import numpy as np


def derive_seed(*parts: int | str) -> int:
    """A seed from 0 to 2^63 - 1 that follows from numbers (at least 0) and names, in their order."""
    words = [part if isinstance(part, int) else _number_of(part) for part in parts]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def _number_of(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
