"""Loads what the commands need: a pipeline, a segmenter; from a folder, a hub, or the shipped checkpoint."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cpgg_hf.commands.errors import CommandError

if TYPE_CHECKING:
    from cpgg_hf.measure import CineSegmenter
    from cpgg_hf.pipeline_cpgg import CPGGPipeline

# Beside `src` in a clone of the repository, which is what the quick start works in.
SHIPPED_CHECKPOINT = Path(__file__).resolve().parents[3] / "checkpoints" / "cpgg-phantom-small"
SEGMENTER_FOLDER = "segmenter"


def checkpoint_path(model: str | None) -> str:
    """The checkpoint that was asked for, or the shipped one.

    Raises:
        CommandError: nothing was asked for, and the package does not lie in a clone of the repository.
    """
    if model is not None:
        return model
    if not SHIPPED_CHECKPOINT.is_dir():
        raise CommandError(f"there is no shipped checkpoint at {SHIPPED_CHECKPOINT}; name one with --model.")
    return os.path.relpath(SHIPPED_CHECKPOINT)


def load_pipeline(model: str | None) -> "CPGGPipeline":
    """The pipeline of a checkpoint, on the accelerator if there is one."""
    import torch

    from cpgg_hf.pipeline_cpgg import CPGGPipeline

    pipe = CPGGPipeline.from_pretrained(checkpoint_path(model))
    pipe.to(torch.accelerator.current_accelerator() or torch.device("cpu"))
    return pipe


def load_segmenter(segmenter: str | None, model: str | None = None) -> "CineSegmenter":
    """The segmenter in a folder of its own, or the one that lies in a checkpoint."""
    import torch

    from cpgg_hf.checkpoint_files import check_model
    from cpgg_hf.measure import CineSegmenter

    folder = Path(segmenter) if segmenter is not None else Path(checkpoint_path(model)) / SEGMENTER_FOLDER
    if not folder.is_dir():
        raise CommandError(f"there is no segmenter at {folder}; name its folder with --segmenter.")
    check_model(folder, CineSegmenter)
    network = CineSegmenter.from_pretrained(folder, use_safetensors=True)
    return network.to(torch.accelerator.current_accelerator() or torch.device("cpu")).eval()
