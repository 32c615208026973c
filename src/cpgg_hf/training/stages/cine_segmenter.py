"""The segmenter of `cpgg_hf.measure`: cross-entropy against the share of each pixel that each structure covers.

It learns from phantoms with seeds reserved for it (kept in the folder `data`), never from generated cines.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from torch.utils.data import Dataset

from cpgg_hf.cine import Cine
from cpgg_hf.segmentation.augmentation import augment
from cpgg_hf.segmentation.phantom_frames import CONTEXT_FRAMES, SEED_ROOTS, PhantomFrames, render_subject
from cpgg_hf.segmentation.segmenter import CineSegmenter
from cpgg_hf.training.arguments import TrainingArguments, argument, operational
from cpgg_hf.training.evaluation import measured_r2
from cpgg_hf.training.randomness import StepRandomness
from cpgg_hf.training.stage import Batch, Stage
from cpgg_hf.training.stages.segmenters import coverage_cross_entropy, training_record

_WATCHED = (
    "LVEDV", "LVEF", "RVEDV", "LAV_max", "RAV_max", "DAo_max_area", "Ell_Global", "septal_wall", "lateral_wall",
)  # fmt: skip


@dataclass(kw_only=True)
class CineSegmenterArguments(TrainingArguments):
    """Arguments of the segmenter's stage."""

    data: str = operational(help="Folder of the rendered phantoms; created if missing.", source="phantoms")
    num_subjects: int = argument(
        550, "Number of training phantoms, six frames each; a multiple of 50.", minimum=1, maximum=10**6
    )
    test_samples: int = argument(200, "Test phantoms whose R2 the trained network records.", minimum=2)


class CineSegmenterStage(Stage):
    """Trains `CineSegmenter`; validation is the R2 of phenotypes measured in held-out phantoms."""

    name = "cine_segmenter"
    arguments_class = CineSegmenterArguments
    arguments: CineSegmenterArguments

    def load_data(self, accelerator: Accelerator) -> tuple[Dataset, str]:
        """Frames of the training phantoms, rendered on first use; held-out cines for `validate`."""
        with accelerator.main_process_first():
            frames = PhantomFrames(self.arguments.data, self.arguments.num_subjects, accelerator.is_main_process)
        self.held_out = render_cines("validation", self.arguments.validation_samples)
        return frames, frames.fingerprint()  # type: ignore[return-value]

    def build(self) -> CineSegmenter:
        """The segmenter configured under `model:`."""
        return CineSegmenter(**{"context_frames": CONTEXT_FRAMES, **self.model_settings(CineSegmenter)})

    def loss(self, network: CineSegmenter, batch: Batch, randomness: StepRandomness) -> dict[str, torch.Tensor]:  # noqa: ARG002
        """Cross-entropy per pixel against the coverage of augmented frames."""
        frames, coverage = augment(batch["frames"].float() / 255, batch["coverage"].float() / 255)
        return {"loss": coverage_cross_entropy(network(2 * frames - 1).float(), coverage)}

    def validate(self, network: CineSegmenter, folder: Path) -> dict[str, float]:  # noqa: ARG002
        """R2 of some phenotypes measured in the held-out cines."""
        r2 = measured_r2(self.held_out, network)
        return {f"r2_{name}": r2[name] for name in _WATCHED}

    def finish(self, network: CineSegmenter) -> None:
        """Record in the configuration how the weights were trained, and their R2 on the test phantoms."""
        r2 = measured_r2(render_cines("test", self.arguments.test_samples), network)
        record = {
            **training_record(self, "phantoms", SEED_ROOTS["train"]),
            "test_phantoms": f"{self.arguments.test_samples} of numpy SeedSequence([{SEED_ROOTS['test']}, i])",
            "test_r2": {name: round(value, 4) for name, value in r2.items()},
        }
        network.register_to_config(training_record=record)


@cache
def render_cines(split: Literal["validation", "test"], count: int) -> list[Cine]:
    """The first phantoms of a split, with their exact phenotypes."""
    return [render_subject(split, index).cine for index in range(count)]
