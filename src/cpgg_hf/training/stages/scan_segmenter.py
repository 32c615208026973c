"""The scan segmenter, which locates and segments the heart in full scans.

Cross-entropy and Dice on randomised fields (`random_fields.py`) of phantoms with their own seeds, kept in `data`.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import Dataset

from cpgg_hf.grid import NUM_FRAMES
from cpgg_hf.segmentation.heart_shapes import NUM_TIMES, SEED_ROOTS, STRUCTURES, HeartShapes
from cpgg_hf.segmentation.random_fields import CONTEXT_TIMES, random_fields
from cpgg_hf.segmentation.segmenter import CineSegmenter
from cpgg_hf.training.arguments import TrainingArguments, argument, operational
from cpgg_hf.training.randomness import StepRandomness
from cpgg_hf.training.stage import Batch, Stage
from cpgg_hf.training.stages.segmenters import coverage_cross_entropy, soft_dice, training_record

_VALIDATION_HEARTS = 50


@dataclass(kw_only=True)
class ScanSegmenterArguments(TrainingArguments):
    """Arguments of the scan segmenter's stage."""

    data: str = operational(help="Folder of the rendered hearts; created if missing.", source="phantoms")
    num_subjects: int = argument(
        600, "Number of training hearts, ten phases each; a multiple of 50.", minimum=1, maximum=10**6
    )
    init_from: str | None = argument(None, "Folder or repository of a scan segmenter to start from.", source="model")


class ScanSegmenterStage(Stage):
    """Trains `CineSegmenter` on randomised fields; validation is the Dice overlap in fields of held-out hearts."""

    name = "scan_segmenter"
    arguments_class = ScanSegmenterArguments
    arguments: ScanSegmenterArguments

    def load_data(self, accelerator: Accelerator) -> tuple[Dataset, str]:
        """Moving hearts, rendered on first use."""
        with accelerator.main_process_first():
            shown = accelerator.is_main_process
            hearts = HeartShapes(self.arguments.data, self.arguments.num_subjects, "train", shown)
            self.held_out = HeartShapes(self.arguments.data, _VALIDATION_HEARTS, "validation", shown)
        return hearts, hearts.fingerprint()  # type: ignore[return-value]

    def build(self) -> CineSegmenter:
        """The segmenter configured under `model:`, or the trained one to start from."""
        if self.arguments.init_from is not None:
            return self.load_initial(CineSegmenter, self.arguments.init_from)
        frames = tuple(time * NUM_FRAMES // NUM_TIMES for time in CONTEXT_TIMES)
        return CineSegmenter(**{"context_frames": frames, **self.model_settings(CineSegmenter)})

    def loss(self, network: CineSegmenter, batch: Batch, randomness: StepRandomness) -> dict[str, torch.Tensor]:  # noqa: ARG002
        """Cross-entropy per pixel + 0.5 (1 - Dice) of the structures that are present."""
        frames, coverage = _fields(batch)
        # On a CPU convolutions are twice as fast where channels lie innermost.
        frames = frames.contiguous(memory_format=torch.channels_last)
        logits = network(2 * frames - 1).float()
        cross_entropy = coverage_cross_entropy(logits, coverage)
        dice = soft_dice(logits.softmax(dim=1)[:, 1:], coverage)
        missed = 1 - dice[coverage.sum(dim=(2, 3)) > 0].mean()
        return {"loss": cross_entropy + 0.5 * missed, "cross_entropy": cross_entropy, "missed": missed}

    def validate(self, network: CineSegmenter, folder: Path) -> dict[str, float]:  # noqa: ARG002
        """Mean Dice overlap of each structure where it is present; the loop fixes the seed of the fields."""
        overlaps = []
        for first in range(0, len(self.held_out), self.arguments.batch_size):
            indices = list(range(first, min(first + self.arguments.batch_size, len(self.held_out))))
            frames, coverage = _fields(self.held_out[indices])  # type: ignore[arg-type]
            probabilities = network(2 * frames.to(network.device) - 1).float().softmax(dim=1)[:, 1:].cpu()
            dice = soft_dice((probabilities > 0.5).float(), (coverage > 0.5).float())
            overlaps.append(torch.where(coverage.sum(dim=(2, 3)) > 0, dice, torch.nan))
        means = torch.cat(overlaps).nanmean(dim=0)
        return {f"dice_{name.replace(' ', '_')}": float(mean) for name, mean in zip(STRUCTURES, means, strict=True)}

    def finish(self, network: CineSegmenter) -> None:
        """Record in the configuration how the weights were trained."""
        network.register_to_config(training_record=training_record(self, "hearts", SEED_ROOTS["train"]))


def _fields(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    return random_fields(batch["cine"].float() / 255, batch["coverage"].float() / 255, batch["is_phantom"])
