"""TensorBoard, Weights & Biases and trackio: the figures of `log.jsonl`, and the pictures of validations."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from cpgg_hf.errors import TrainingError
from cpgg_hf.training.arguments import TrainingArguments


def check_tracker(report_to: str) -> None:
    """Raises `TrainingError` if the tracker's package is not installed; before anything is loaded or written."""
    if report_to != "none" and importlib.util.find_spec(report_to) is None:
        raise TrainingError(
            f"report_to is {report_to}, which is not installed; pip install {report_to}, or pass --report_to none "
            "(log.jsonl is written anyway)."
        )


def start_tracker(accelerator: Accelerator, stage_name: str, arguments: TrainingArguments) -> None:
    """Start the tracker with the settings that are numbers, text or switches."""
    if arguments.report_to == "none":
        return
    settings = {key: value for key, value in asdict(arguments).items() if isinstance(value, int | float | str)}
    try:
        accelerator.init_trackers(f"cpgg_{stage_name}", config=settings)
    except (OSError, RuntimeError) as error:  # no network, no login
        raise TrainingError(
            f"{arguments.report_to} could not be started ({error}); log in, work offline (WANDB_MODE=offline), or "
            "pass --report_to none."
        ) from error


def log_pictures(accelerator: Accelerator, folder: Path, step: int) -> None:
    """Send the PNG and GIF files of a validation to the tracker."""
    pictures = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".gif"))
    for tracker in accelerator.trackers if accelerator.is_main_process else ():
        for path in pictures:
            _LOGGERS[tracker.name](tracker.tracker, path.name, path, step)


def _to_tensorboard(writer: Any, name: str, path: Path, step: int) -> None:
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    # A GIF or PNG is shown as it is; add_image would decode it, and add_video needs moviepy.
    with Image.open(path) as picture:
        image = Summary.Image(
            height=picture.height, width=picture.width, colorspace=3, encoded_image_string=path.read_bytes()
        )
    writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)
    writer.flush()


def _to_wandb(run: Any, name: str, path: Path, step: int) -> None:
    import wandb

    media = wandb.Video(str(path), format="gif") if path.suffix == ".gif" else wandb.Image(str(path))
    run.log({name: media}, step=step)


def _to_trackio(run: Any, name: str, path: Path, step: int) -> None:
    import trackio

    media = trackio.Video(str(path), format="gif") if path.suffix == ".gif" else trackio.Image(str(path))
    run.log({name: media}, step=step)


_LOGGERS = {"tensorboard": _to_tensorboard, "wandb": _to_wandb, "trackio": _to_trackio}
