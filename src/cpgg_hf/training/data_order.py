"""Which samples an optimizer step sees: a function of (seed, step) alone, so that any step can be started from."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler

from cpgg_hf.training.errors import TrainingError


class DataOrder(Sampler[list[int]]):
    """Index lists, one a micro-batch, of one process.

    Every epoch is a permutation drawn from (seed, epoch), cut into global batches; the rest that fills no batch is
    left out. A global batch is cut into micro-batches, and those into one part a process.

    Args:
        num_samples: size of the training split.
        batch_size: samples per process and micro-batch.
        accumulation: micro-batches per step.
        seed: of the permutations.
        num_processes: how many processes share a global batch.
        process_index: whose part to give.
        first_step: the step to start at; iteration goes on for ever.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        accumulation: int = 1,
        seed: int = 0,
        num_processes: int = 1,
        process_index: int = 0,
        first_step: int = 0,
    ) -> None:
        self.num_samples, self.seed, self.first_step = num_samples, seed, first_step
        self.layout = (accumulation, num_processes, batch_size)
        self.process_index = process_index
        self.global_batch_size = accumulation * num_processes * batch_size
        self.steps_per_epoch = num_samples // self.global_batch_size
        if self.steps_per_epoch == 0:
            raise TrainingError(
                f"the training split has {num_samples} samples, one step needs {self.global_batch_size}; "
                "lower batch_size or gradient_accumulation_steps, or prepare more data."
            )

    def global_batch(self, step: int) -> np.ndarray:
        """The samples of a step on all processes: (accumulation, num_processes, batch_size)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        first = position * self.global_batch_size
        return _permutation(self.num_samples, self.seed, epoch)[first : first + self.global_batch_size].reshape(
            self.layout
        )

    def __iter__(self) -> Iterator[list[int]]:
        step = self.first_step
        while True:
            for micro_batch in self.global_batch(step):
                yield micro_batch[self.process_index].tolist()
            step += 1


@lru_cache(maxsize=2)
def _permutation(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_samples)
