"""Generates cines and measures them, in batches that fit into the device memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cpgg_hf.cine import Cine
from cpgg_hf.errors import RequestError
from cpgg_hf.generation.request import GenerationRequest, sample_generator
from cpgg_hf.generation.verification import Verification

if TYPE_CHECKING:
    from cpgg_hf.pipeline_cpgg import CPGGPipeline


def cines_of(output: Any) -> list[Cine]:
    """The cines of a pipeline's output ("np" or "pt"), each with the phenotypes that it was conditioned on."""
    pixels = output.cines if isinstance(output.cines, np.ndarray) else output.cines.cpu().numpy()
    fields = zip(pixels, output.frame_time_ms, output.phenotypes.to_numpy(), output.seeds, strict=True)
    return [
        Cine(
            pixels=cine,
            frame_time_ms=frame_time_ms,
            spacing_mm=output.spacing_mm,
            phenotypes=phenotypes,
            seed=int(seed),
            view="4ch",
            source="cpgg",
            origin="the generated cine",
        )
        for cine, frame_time_ms, phenotypes, seed in fields
    ]


@dataclass(frozen=True)
class GeneratedCine:
    """One generated cine.

    Attributes:
        cine: (T, H, W) float32 in [0, 1], with the phenotypes that it was conditioned on and its seed.
        measured: (82,) phenotypes measured on the cine as uint8, NaN = not measurable; None = not measured.
        attempt: number of cines that were drawn for these phenotypes, with this one.
    """

    cine: Cine
    measured: np.ndarray | None
    attempt: int


@dataclass
class CineGenerator:
    """Cine i depends on these settings and i only, not on `batch_size`, which falls if the device memory is too small.

    `settings` are those of the pipeline call, such as `guidance_scale`; without `verification` nothing is measured.
    """

    pipe: CPGGPipeline
    request: GenerationRequest
    seed: int
    split: str
    settings: dict[str, Any]
    data_policy: str
    verification: Verification | None = None
    batch_size: int = 8

    def make(self, indices: Sequence[int], on_progress: Callable[[int], None] = lambda _: None) -> list[GeneratedCine]:
        """The cines `indices`; after each batch `on_progress` is called with the number of finished cines.

        A cine that fails its verification is drawn again for the same phenotypes, so that hearts that the model draws
        badly do not become rarer.

        Raises:
            RequestError: the device memory is too small for a single cine, or no draw meets the conditions.
        """
        phenotypes = dict(zip(indices, self.request.draw(self.pipe, self.seed, self.split, indices), strict=True))
        done: dict[int, GeneratedCine] = {}
        waiting = [(index, 1) for index in indices]
        while waiting:
            batch = waiting[: self.batch_size]
            try:
                cines = self._make_batch(batch, np.stack([phenotypes[index] for index, _ in batch]))
            except torch.OutOfMemoryError:
                cines = None
            if cines is None:  # outside the except block, whose traceback would hold on to the memory
                self._reduce_batch_size()
                continue
            waiting = waiting[len(batch) :]
            for (index, attempt), generated in zip(batch, cines, strict=True):
                if self._is_accepted(generated):
                    done[index] = generated
                else:
                    waiting.append((index, attempt + 1))
            on_progress(len(done))
        return [done[index] for index in indices]

    def _make_batch(self, batch: list[tuple[int, int]], phenotypes: np.ndarray) -> list[GeneratedCine]:
        """The cines of (index, attempt) and their (B, 82) phenotypes."""
        generators = [sample_generator(self.seed, self.split, index, attempt) for index, attempt in batch]
        cines = cines_of(self.pipe(phenotypes, generator=generators, **self.settings))
        made = []
        for (index, attempt), cine, values in zip(batch, cines, phenotypes, strict=True):
            subject = f"cpgg-{self.seed}-{self.split}-{index:07d}"
            cine = replace(cine, phenotypes=values, subject=subject, data_policy=self.data_policy)
            # The stored uint8 pixels are measured, so that anyone can repeat the measurement.
            stored = cine.with_pixels(cine.uint8)
            measured = None if self.verification is None else self.verification.measure(stored)
            made.append(GeneratedCine(cine, measured, attempt))
        return made

    def _is_accepted(self, generated: GeneratedCine) -> bool:
        if self.verification is None or generated.attempt >= self.verification.max_attempts:
            return True
        return self.verification.passes(generated.cine.phenotypes, generated.measured)

    def _reduce_batch_size(self) -> None:
        if self.batch_size == 1:
            raise RequestError(
                f"the device memory is too small for one micro-batch of {self.pipe.config.micro_batch_size} cines; "
                "free some, or use a smaller micro-batch in a new folder (it rounds differently): "
                "`--micro_batch_size` of generate_dataset.py."
            )
        self.batch_size = (self.batch_size + 1) // 2
        torch.cuda.empty_cache()
        print(f"the device memory is too small; continuing with batches of {self.batch_size}", file=sys.stderr)
