"""The segmenter of `cpgg_hf.measure`: cross-entropy against the share of each pixel that each structure covers.

Its data are phantoms of seeds of its own (`data` is the folder where they are kept); it never sees generated cines.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import Dataset

from cpgg_hf.measure import CineSegmenter, measure_cines
from cpgg_hf.measure.augmentation import augment
from cpgg_hf.measure.phantom_frames import CONTEXT_FRAMES, SEED_ROOTS, PhantomFrames, render_subject
from cpgg_hf.metrics.controllability import adherence
from cpgg_hf.training.arguments import TrainingArguments, check_keys
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


@dataclass
class SegmenterArguments(TrainingArguments):
    """Arguments of the segmenter's stage."""

    num_subjects: int = field(default=1000, metadata={"help": "Training phantoms, six frames each."})


class SegmenterStage(Stage):
    """Trains `CineSegmenter`; validation is the R2 of what is measured in held-out phantoms."""

    name: ClassVar[str] = "segmenter"
    arguments_class: ClassVar[type[TrainingArguments]] = SegmenterArguments
    arguments: SegmenterArguments

    def load_data(self, accelerator: Accelerator) -> tuple[Dataset, str]:
        """Frames of the training phantoms, rendered on first use; held-out cines for `validate`."""
        with accelerator.main_process_first():
            frames = PhantomFrames(self.arguments.data, self.arguments.num_subjects, accelerator.is_main_process)
        self.held_out = [render_subject("validation", index) for index in range(self.arguments.validation_samples)]
        return frames, frames.fingerprint()  # type: ignore[return-value]

    def build(self) -> CineSegmenter:
        """The segmenter of the settings under `model:`."""
        check_keys(self.arguments.model, list(inspect.signature(CineSegmenter.__init__).parameters)[1:], "model")
        return CineSegmenter(**{"context_frames": CONTEXT_FRAMES, **self.arguments.model})

    def loss(self, network: CineSegmenter, batch: Batch) -> dict[str, torch.Tensor]:
        """Cross-entropy per pixel against the coverage of augmented frames."""
        frames, coverage = augment(batch["frames"].float() / 255, batch["coverage"].float() / 255)
        logits = network(2 * frames - 1).float()
        background = (1 - coverage.sum(dim=1, keepdim=True)).clamp_min(0)
        target = torch.cat([background, coverage], dim=1)
        return {"loss": torch.nn.functional.cross_entropy(logits, target)}

    def validate(self, network: CineSegmenter, folder: Path) -> dict[str, float]:
        """R2 of some phenotypes measured in the held-out cines."""
        measured = measure_cines(
            np.stack([subject.cine for subject in self.held_out]),
            self.held_out[0].spacing_mm,
            [subject.frame_time_ms for subject in self.held_out],
            network,
        )
        table = adherence(np.stack([subject.phenotypes for subject in self.held_out]), measured, num_resamples=10)
        table.to_csv(folder / "adherence.csv")
        return {f"r2_{name}": float(table.loc[name, "r2"]) for name in _WATCHED}

    def finish(self, network: CineSegmenter) -> None:
        """Tell in the configuration how the weights were trained."""
        network.register_to_config(
            training_record={
                "seed_root": SEED_ROOTS["train"],
                "num_subjects": self.arguments.num_subjects,
                "steps": self.arguments.max_train_steps,
                "batch_size": self.arguments.batch_size,
                "command": "accelerate launch training_scripts/train_segmenter.py "
                "--config training_scripts/configs/phantom_small_segmenter.yaml",
            }
        )
