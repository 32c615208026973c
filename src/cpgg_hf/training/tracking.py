"""Figures of a run: `log.jsonl`, and TensorBoard, Weights & Biases or trackio, which also show validation pictures."""

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from cpgg_hf.errors import TrainingError
from cpgg_hf.training.arguments import TrainingArguments


class RunLog:
    """Appends JSON lines to `log.jsonl`; a run resumed at `first_step` drops later lines.

    Training lines hold step, epoch, loss terms, lr, grad_norm, throughput and seconds; validation lines hold step and
    `validation_...` figures.
    """

    def __init__(self, path: Path, first_step: int, is_main_process: bool = True) -> None:
        self.path = path
        if not is_main_process:
            return
        kept = [line for line in _lines(path) if line["step"] <= first_step] if first_step else []
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        partial.rename(path)

    def write(self, **values: Any) -> str:
        """Append one line; returns a short form to print."""
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")
        return "  ".join(f"{key} {value:.6g}" for key, value in values.items())

    def last_validation(self) -> dict[str, float]:
        """The figures of the last line that holds a validation."""
        prefix = "validation_"
        for line in reversed(_lines(self.path)):
            if figures := {key.removeprefix(prefix): line[key] for key in line if key.startswith(prefix)}:
                return figures
        return {}


def _lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:  # incomplete line of a killed run
            continue
    return lines


def check_tracker(report_to: str) -> None:
    """Raises `TrainingError` if the tracker's package is not installed; before anything is loaded or written."""
    if report_to != "none" and importlib.util.find_spec(report_to) is None:
        raise TrainingError(
            f"report_to is {report_to}, which is not installed; pip install {report_to}, or pass --report_to none "
            "(log.jsonl is written anyway)."
        )


def start_tracker(accelerator: Accelerator, stage_name: str, arguments: TrainingArguments) -> None:
    """Start the tracker with the settings that are numbers, text or switches; TrainingError if it cannot start."""
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
    """Send the PNG and GIF files of a validation to the tracker; called by the main process."""
    for tracker in accelerator.trackers:
        for path in sorted(path for path in folder.iterdir() if path.suffix in (".png", ".gif")):
            if tracker.name == "tensorboard":
                _add_to_tensorboard(tracker.tracker, path, step)
                continue
            library = importlib.import_module(tracker.name)  # wandb and trackio have the same interface
            media = library.Video(str(path), format="gif") if path.suffix == ".gif" else library.Image(str(path))
            tracker.tracker.log({path.name: media}, step=step)


def _add_to_tensorboard(writer: Any, path: Path, step: int) -> None:
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    # A GIF or PNG is shown as it is; add_image would decode it, and add_video needs moviepy.
    with Image.open(path) as picture:
        image = Summary.Image(
            height=picture.height, width=picture.width, colorspace=3, encoded_image_string=path.read_bytes()
        )
    writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=path.name, image=image)]), step)
    writer.flush()
