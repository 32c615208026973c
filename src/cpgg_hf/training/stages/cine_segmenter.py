"""The segmenter of `cpgg_hf.measure`: cross-entropy against the share of each pixel that each structure covers.

It learns from phantoms with seeds reserved for it (kept in the folder `data`), never from generated cines.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import Dataset

from cpgg_hf.measure import measure_cines
from cpgg_hf.metrics import controllability
from cpgg_hf.phantom import PhantomHeart
from cpgg_hf.segmentation.augmentation import augment
from cpgg_hf.segmentation.phantom_frames import CONTEXT_FRAMES, SEED_ROOTS, PhantomFrames, render_subject
from cpgg_hf.segmentation.segmenter import CineSegmenter
from cpgg_hf.training.argument_fields import argument, check_keys
from cpgg_hf.training.arguments import TrainingArguments
from cpgg_hf.training.randomness import StepRandomness
from cpgg_hf.training.stage import Batch, Stage

_WATCHED = (
    "LVEDV",
    "LVEF",
    "RVEDV",
    "LAV_max",
    "RAV_max",
    "DAo_max_area",
    "Ell_Global",
    "septal_wall",
    "lateral_wall",
)


@dataclass(kw_only=True)
class CineSegmenterArguments(TrainingArguments):
    """Arguments of the segmenter's stage."""

    data: str = argument(help="Folder of the rendered phantoms; made if missing.", source="phantoms", operational=True)
    num_subjects: int = argument(550, "Number of training phantoms, six frames each.", minimum=1)
    test_samples: int = argument(200, "Test phantoms whose R2 the trained network records.", minimum=1)


class CineSegmenterStage(Stage):
    """Trains `CineSegmenter`; validation is the R2 of what is measured in held-out phantoms."""

    name: ClassVar[str] = "cine_segmenter"
    arguments_class: ClassVar[type[TrainingArguments]] = CineSegmenterArguments
    arguments: CineSegmenterArguments

    def __init__(self, arguments: CineSegmenterArguments) -> None:
        super().__init__(arguments)
        self.test_subjects: list[PhantomHeart] = []

    def load_data(self, accelerator: Accelerator) -> tuple[Dataset, str]:
        """Frames of the training phantoms, rendered on first use; held-out cines for `validate`."""
        with accelerator.main_process_first():
            frames = PhantomFrames(self.arguments.data, self.arguments.num_subjects, accelerator.is_main_process)
        self.held_out = [render_subject("validation", index) for index in range(self.arguments.validation_samples)]
        return frames, frames.fingerprint()  # type: ignore[return-value]

    def build(self) -> CineSegmenter:
        """The segmenter configured under `model:`."""
        check_keys(self.arguments.model, list(inspect.signature(CineSegmenter.__init__).parameters)[1:], "model")
        return CineSegmenter(**{"context_frames": CONTEXT_FRAMES, **self.arguments.model})

    def loss(self, network: CineSegmenter, batch: Batch, randomness: StepRandomness) -> dict[str, torch.Tensor]:  # noqa: ARG002
        """Cross-entropy per pixel against the coverage of augmented frames."""
        frames, coverage = augment(batch["frames"].float() / 255, batch["coverage"].float() / 255)
        logits = network(2 * frames - 1).float()
        background = (1 - coverage.sum(dim=1, keepdim=True)).clamp_min(0)
        target = torch.cat([background, coverage], dim=1)
        return {"loss": torch.nn.functional.cross_entropy(logits, target)}

    def validate(self, network: CineSegmenter, folder: Path) -> dict[str, float]:  # noqa: ARG002
        """R2 of some phenotypes measured in the held-out cines."""
        r2 = measured_r2(network, self.held_out)
        return {f"r2_{name}": r2[name] for name in _WATCHED}

    def finish(self, network: CineSegmenter) -> None:
        """Record in the configuration how the weights were trained, and their R2 on the test phantoms."""
        if not self.test_subjects:
            self.test_subjects = [render_subject("test", index) for index in range(self.arguments.test_samples)]
        record = {
            "command": "python training_scripts/train_cine_segmenter.py "
            "--config training_scripts/configs/phantom_small_cine_segmenter.yaml",
            "training_phantoms": f"{self.arguments.num_subjects} of numpy SeedSequence([{SEED_ROOTS['train']}, i])",
            "steps": self.arguments.max_train_steps,
            "batch_size": self.arguments.batch_size,
            "test_phantoms": f"{len(self.test_subjects)} of numpy SeedSequence([{SEED_ROOTS['test']}, i])",
            "test_r2": {name: round(value, 4) for name, value in measured_r2(network, self.test_subjects).items()},
        }
        network.register_to_config(training_record=record)


def measured_r2(segmenter: CineSegmenter, subjects: Sequence[PhantomHeart]) -> dict[str, float]:
    """R2 = 1 - SSE / SST of measured phenotypes in phantoms: each measurable one, septal and lateral wall."""
    measured = measure_cines((subject.cine for subject in subjects), segmenter)
    table = controllability(np.stack([subject.phenotypes for subject in subjects]), measured, num_resamples=1)
    return table.loc[table["measurable"], "r2"].astype(float).to_dict()
