"""Loads pipelines and segmenters from a folder, the Hub, or the default checkpoint."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpgg_hf.errors import RequestError, brief

if TYPE_CHECKING:
    import torch

    from cpgg_hf.pipeline_cpgg import CPGGPipeline
    from cpgg_hf.segmentation.segmenter import CineSegmenter

MODEL_VARIABLE = "CPGG_MODEL"
DEFAULT_CHECKPOINT = Path("checkpoints") / "cpgg-phantom-small"
SHIPPED_CHECKPOINT = Path(__file__).resolve().parents[3] / DEFAULT_CHECKPOINT  # in a clone of the repository
CINE_SEGMENTER_FOLDER = "cine_segmenter"
SCAN_SEGMENTER_FOLDER = "scan_segmenter"
_OLD_FOLDERS = {CINE_SEGMENTER_FOLDER: "segmenter", SCAN_SEGMENTER_FOLDER: "field_segmenter"}  # of older checkpoints


def checkpoint_path(model: str | None) -> str:
    """The given checkpoint, or the default one: that of CPGG_MODEL, of the working folder, or of the clone.

    Returns:
        A folder or a Hub repository.

    Raises:
        RequestError: none is given, and there is no default one.
    """
    if found := model or os.environ.get(MODEL_VARIABLE):
        return found
    for folder in (DEFAULT_CHECKPOINT, SHIPPED_CHECKPOINT):
        if folder.is_dir():
            return os.path.relpath(folder)
    raise RequestError(
        f"no checkpoint was found: {MODEL_VARIABLE} is not set, and the working folder has no {DEFAULT_CHECKPOINT}; "
        f"set {MODEL_VARIABLE} to the folder or the Hub repository of a checkpoint, or change to a folder with one."
    )


def load_pipeline(model: str | None, device: str | None = None, dtype: str = "float32") -> "CPGGPipeline":
    """The pipeline of a checkpoint, on the accelerator if there is one, or on the given device.

    Raises:
        RequestError: no checkpoint, a device that cannot be used, or float16 on a CPU, which torch does not support.
    """
    import torch

    from cpgg_hf.pipeline_cpgg import CPGGPipeline

    checkpoint, place = checkpoint_path(model), usable_device(device)
    if dtype == "float16" and place.type == "cpu":
        raise RequestError("float16 needs an accelerator, and the networks run on a CPU; use bfloat16 or float32.")
    pipe = CPGGPipeline.from_pretrained(checkpoint, dtype=getattr(torch, dtype))
    pipe.to(place)
    return pipe


def usable_device(device: str | None) -> "torch.device":
    """The given device, or the accelerator, or the CPU if there is none; RequestError if it cannot be used."""
    import torch

    if device is None:
        return torch.accelerator.current_accelerator() or torch.device("cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # torch raises either
        raise RequestError(f"the device {device} cannot be used ({brief(error)}); give another one.") from error


def segmenter_path(segmenter: str | None, model: str | None = None, scans: bool = False) -> str:
    """The given segmenter, or the one in a checkpoint, which is downloaded from the Hub if need be.

    Args:
        segmenter: its folder; None is the checkpoint's.
        model: the checkpoint; None is the default one.
        scans: whether it must work on scans, not only on phantoms and generated cines.

    Raises:
        RequestError: there is none.
    """
    if segmenter is not None:
        if not Path(segmenter).is_dir():
            raise RequestError(f"there is no segmenter at {segmenter}; give the folder of one.")
        return segmenter
    name = SCAN_SEGMENTER_FOLDER if scans else CINE_SEGMENTER_FOLDER
    names = (name, _OLD_FOLDERS[name])
    checkpoint = checkpoint_path(model)
    folder = Path(checkpoint) if Path(checkpoint).is_dir() else _downloaded(checkpoint, names)
    for one in names:
        if (folder / one).is_dir():
            return str(folder / one)
    raise RequestError(f"the checkpoint {checkpoint} has no folder {name} with a segmenter; use one that has.")


def _downloaded(repository: str, folders: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    from cpgg_hf.hub.reading import hub_problem

    wanted = [f"{folder}/*.{ending}" for folder in folders for ending in ("json", "safetensors")]
    try:
        return Path(snapshot_download(repository, allow_patterns=wanted))
    except (OSError, ValueError) as error:
        raise RequestError(
            f"{repository} is neither a folder nor a Hub repository that can be read: "
            f"{hub_problem(error) or brief(error)}."
        ) from error


def load_segmenter(
    segmenter: str | None, model: str | None = None, scans: bool = False, device: str | None = None
) -> "CineSegmenter":
    """The segmenter at `segmenter_path`, on the accelerator if there is one, or on the given device."""
    from cpgg_hf.segmentation import segmenter as segmenters

    place = usable_device(device)
    network: Any = segmenters.load_segmenter(segmenter_path(segmenter, model, scans))
    return network.to(place)
