"""Makes the rows of a data set: phenotypes, cines, measurements, batch by batch within what the device holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cpgg_hf.cine import Cine
from cpgg_hf.dataset import cine_of, cine_row
from cpgg_hf.errors import RequestError
from cpgg_hf.generation.request import GenerationRequest
from cpgg_hf.generation.seeds import sample_seed
from cpgg_hf.generation.verification import Verification

if TYPE_CHECKING:
    from cpgg_hf.pipeline_cpgg import CPGGPipeline


@dataclass
class CineGenerator:
    """Row i depends on these settings and i alone, `batch_size` excepted.

    Attributes:
        pipe: on its device.
        request: the phenotypes.
        seed: of the run.
        split: of the data set.
        settings: of the pipeline's call, such as `guidance_scale`.
        data_policy: of the data that the model was trained on.
        verification: None = cines are not measured.
        batch_size: cines in memory at once; becomes smaller where the device's memory does not hold them.
    """

    pipe: CPGGPipeline
    request: GenerationRequest
    seed: int
    split: str
    settings: dict[str, Any]
    data_policy: str
    verification: Verification | None = None
    batch_size: int = 8

    def make(
        self, indices: Sequence[int], on_progress: Callable[[int], None] = lambda _: None
    ) -> list[dict[str, Any]]:
        """The rows `indices` of the data set; `on_progress` hears how many are done after each batch.

        A cine that fails its verification is drawn again for the same phenotypes, so that no kind of heart becomes
        rarer in the set because the model draws it badly.

        Raises:
            RequestError: the device's memory does not hold a single cine; conditions that no draw meets.
        """
        phenotypes = dict(zip(indices, self.request.draw(self.pipe, self.seed, self.split, indices), strict=True))
        done: dict[int, dict[str, Any]] = {}
        waiting = [(index, 1) for index in indices]
        while waiting:
            batch = waiting[: self.batch_size]
            rows = self._make_batch(batch, np.stack([phenotypes[index] for index, _ in batch]))
            if rows is None:
                self._take_smaller_batches()
                continue
            waiting = waiting[len(batch) :]
            for (index, attempt), row in zip(batch, rows, strict=True):
                if self._is_final(row):
                    done[index] = row
                else:
                    waiting.append((index, attempt + 1))
            on_progress(len(done))
        return [done[index] for index in indices]

    def _make_batch(self, batch: list[tuple[int, int]], phenotypes: np.ndarray) -> list[dict[str, Any]] | None:
        """Rows of (index, attempt) and their (B, 82) phenotypes; None where the device's memory does not hold them."""
        seeds = [sample_seed(self.seed, self.split, index, attempt) for index, attempt in batch]
        try:
            generators = [torch.Generator().manual_seed(seed) for seed in seeds]
            output = self.pipe(phenotypes, generator=generators, **self.settings)
            return [
                self._row(index, attempt, seed, cine, values, float(frame_time_ms))
                for (index, attempt), seed, cine, values, frame_time_ms in zip(
                    batch, seeds, output.cines, phenotypes, output.frame_time_ms, strict=True
                )
            ]
        except torch.OutOfMemoryError:
            return None

    def _row(
        self, index: int, attempt: int, seed: int, cine: np.ndarray, phenotypes: np.ndarray, frame_time_ms: float
    ) -> dict[str, Any]:
        spacing_mm = self.pipe.config.pixel_spacing_mm
        row = cine_row(
            Cine(
                pixels=cine,
                spacing_mm=spacing_mm,
                frame_time_ms=frame_time_ms,
                subject=f"cpgg-{self.seed}-{self.split}-{index:07d}",
                source="cpgg",
                view="4ch",
                data_policy=self.data_policy,
                seed=seed,
                phenotypes=phenotypes,
            )
        )
        if self.verification is not None:
            # What is stored is measured, so that anyone can measure the same again.
            row["measured"] = self.verification.measure(cine_of(row)).tolist()
        row["attempt"] = attempt
        return row

    def _is_final(self, row: dict[str, Any]) -> bool:
        if self.verification is None or row["attempt"] >= self.verification.max_attempts:
            return True
        return self.verification.passes(np.array(row["phenotypes"]), np.array(row["measured"]))

    def _take_smaller_batches(self) -> None:
        if self.batch_size == 1:
            raise RequestError(
                f"the device's memory does not hold one micro-batch of {self.pipe.config.micro_batch_size} cines; "
                "free some, or begin a new folder with a smaller micro_batch_size, which rounds differently."
            )
        self.batch_size = (self.batch_size + 1) // 2
        torch.cuda.empty_cache()
        print(
            f"the device's memory does not hold the batch; going on with {self.batch_size} cines at once", flush=True
        )
