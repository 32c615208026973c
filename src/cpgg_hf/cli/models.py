"""Loads pipelines and segmenters from a folder, the hub, or the shipped checkpoint."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpgg_hf.errors import RequestError

if TYPE_CHECKING:
    from cpgg_hf.pipeline_cpgg import CPGGPipeline
    from cpgg_hf.segmentation.segmenter import CineSegmenter

# In a clone of the repository.
SHIPPED_CHECKPOINT = Path(__file__).resolve().parents[3] / "checkpoints" / "cpgg-phantom-small"
CINE_SEGMENTER_FOLDER = "cine_segmenter"
SCAN_SEGMENTER_FOLDER = "scan_segmenter"
_OLD_FOLDERS = {CINE_SEGMENTER_FOLDER: "segmenter", SCAN_SEGMENTER_FOLDER: "field_segmenter"}  # of older checkpoints


def checkpoint_path(model: str | None) -> str:
    """The given checkpoint, or the shipped one.

    Raises:
        RequestError: none is given, and the package is not in a clone of the repository.
    """
    if model is not None:
        return model
    if not SHIPPED_CHECKPOINT.is_dir():
        raise RequestError(f"there is no shipped checkpoint at {SHIPPED_CHECKPOINT}; give one with --model.")
    return os.path.relpath(SHIPPED_CHECKPOINT)


def load_pipeline(model: str | None) -> "CPGGPipeline":
    """The pipeline of a checkpoint, on the accelerator if there is one."""
    import torch

    from cpgg_hf.pipeline_cpgg import CPGGPipeline

    pipe = CPGGPipeline.from_pretrained(checkpoint_path(model))
    pipe.to(torch.accelerator.current_accelerator() or torch.device("cpu"))
    return pipe


def segmenter_path(segmenter: str | None, model: str | None = None, scans: bool = False) -> str:
    """The given segmenter, or the one in a checkpoint.

    Args:
        segmenter: its folder; None is the checkpoint's.
        model: the checkpoint; None is the shipped one.
        scans: whether it must work on scans, not only on phantoms and generated cines.

    Raises:
        RequestError: there is none.
    """
    name = SCAN_SEGMENTER_FOLDER if scans else CINE_SEGMENTER_FOLDER
    if segmenter is not None:
        folder = Path(segmenter)
    else:
        folder = Path(checkpoint_path(model)) / name
        old = folder.with_name(_OLD_FOLDERS[name])
        folder = old if old.is_dir() and not folder.is_dir() else folder
    if not folder.is_dir():
        raise RequestError(f"there is no segmenter at {folder}; give its folder with --segmenter.")
    return str(folder)


def load_segmenter(segmenter: str | None, model: str | None = None, scans: bool = False) -> "CineSegmenter":
    """The segmenter at `segmenter_path`, on the accelerator if there is one."""
    import torch

    from cpgg_hf.segmentation import segmenter as segmenters

    network: Any = segmenters.load_segmenter(segmenter_path(segmenter, model, scans))
    return network.to(torch.accelerator.current_accelerator() or torch.device("cpu"))
