"""The generators that callers pass: diffusers' contract."""

from typing import Any

import torch


def given_generators(generator: Any, num_samples: int) -> list[torch.Generator]:
    """The given generators: one per sample, or one for the first sample, or none.

    Raises:
        ValueError: something else, or a list of another length.
    """
    given = generator if isinstance(generator, list) else [] if generator is None else [generator]
    for one in given:
        if not isinstance(one, torch.Generator):
            raise ValueError(
                f"generator must be a torch.Generator or a list of them, given {one!r}; use "
                "torch.Generator().manual_seed(0), for example."
            )
    if isinstance(generator, list) and len(given) != num_samples:
        raise ValueError(
            f"generator must be one, or a list of {num_samples} generators, one per sample, given {len(given)}."
        )
    return given
