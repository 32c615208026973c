"""Assigns samples to optimizer steps and processes, as a function of (seed, step) and of the plan only."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler

from cpgg_hf.errors import TrainingError
from cpgg_hf.training.arguments import TrainingArguments


@dataclass(frozen=True)
class BatchPlan:
    """How the global batch of a step is divided: into micro-batches, and each of them into one part per process.

    Attributes:
        global_batch_size: samples per step, N.
        accumulation: micro-batches per step, A.
        num_processes: parts per micro-batch, P. Parts differ by at most one sample.
    """

    global_batch_size: int
    accumulation: int
    num_processes: int

    @classmethod
    def of(cls, arguments: TrainingArguments, num_processes: int) -> "BatchPlan":
        """The plan for these settings: with `global_batch_size`, as few micro-batches as `batch_size` allows.

        Raises:
            TrainingError: a process would have no sample.
        """
        accumulation, global_batch_size = arguments.gradient_accumulation_steps, arguments.global_batch_size
        if global_batch_size is None:
            return cls(arguments.batch_size * accumulation * num_processes, accumulation, num_processes)
        accumulation = math.ceil(global_batch_size / (arguments.batch_size * num_processes))
        if global_batch_size < accumulation * num_processes:
            raise TrainingError(
                f"a global batch of {global_batch_size} cannot be divided among {num_processes} processes in "
                f"{accumulation} micro-batches; launch fewer processes, or increase global_batch_size."
            )
        return cls(global_batch_size, accumulation, num_processes)

    def part(self, micro_batch: int, process: int) -> range:
        """The positions in the global batch of one process's part of one micro-batch."""
        size, longer = divmod(self.global_batch_size, self.accumulation * self.num_processes)
        index = micro_batch * self.num_processes + process
        first = index * size + min(index, longer)
        return range(first, first + size + (index < longer))

    def weight(self, micro_batch: int, process: int) -> float:
        """Weight of a part's mean, so that the mean over all parts is the mean over all samples."""
        parts = self.accumulation * self.num_processes
        return len(self.part(micro_batch, process)) * parts / self.global_batch_size


class DataOrder(Sampler[list[int]]):
    """Endless lists of indices, one per micro-batch, for one process.

    Every epoch is a permutation that depends on (seed, epoch), divided into global batches; samples that do not fill
    a last batch are left out. Iteration starts at `first_step`.

    Raises:
        TrainingError: the training split of `num_samples` is smaller than a global batch.
    """

    def __init__(
        self, num_samples: int, plan: BatchPlan, seed: int = 0, process_index: int = 0, first_step: int = 0
    ) -> None:
        self.num_samples, self.plan, self.seed = num_samples, plan, seed
        self.process_index, self.first_step = process_index, first_step
        self.steps_per_epoch = num_samples // plan.global_batch_size
        if self.steps_per_epoch == 0:
            raise TrainingError(
                f"the training split has {num_samples} samples, but one step needs {plan.global_batch_size}; "
                "lower global_batch_size, batch_size or gradient_accumulation_steps, or prepare more data."
            )

    def global_batch(self, step: int) -> np.ndarray:
        """The samples of a step over all processes: (global_batch_size,)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        first = position * self.plan.global_batch_size
        return _permutation(self.num_samples, self.seed, epoch)[first : first + self.plan.global_batch_size]

    def __iter__(self) -> Iterator[list[int]]:
        step = self.first_step
        while True:
            samples = self.global_batch(step)
            for micro_batch in range(self.plan.accumulation):
                yield samples[self.plan.part(micro_batch, self.process_index)].tolist()
            step += 1


@lru_cache(maxsize=2)
def _permutation(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_samples)
