"""Reasons to stop a run early: its time limit, SIGTERM, or a batch with a loss that is not finite."""

from __future__ import annotations

import json
import math
import signal
import time
from pathlib import Path
from typing import NoReturn

from cpgg_hf.errors import TrainingError


class StopRequest:
    """Whether to save and stop: `max_seconds` have passed, or SIGTERM has arrived (a pre-empted node)."""

    def __init__(self, max_seconds: float | None) -> None:
        self.deadline = math.inf if max_seconds is None else time.monotonic() + max_seconds
        self.reason = f"max_seconds = {max_seconds}"

    def __enter__(self) -> StopRequest:
        self._previous = signal.signal(signal.SIGTERM, self._terminate)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._previous)

    def _terminate(self, *_: object) -> None:
        self.deadline, self.reason = 0.0, "SIGTERM"

    def __bool__(self) -> bool:
        return time.monotonic() >= self.deadline


def refuse_step(output_dir: Path, step: int, what: str, samples: list[int] | None, is_main_process: bool) -> NoReturn:
    """End a run whose step is not finite; the samples are named in the error and in `not_finite.json`.

    Args:
        output_dir: folder of the run.
        step: the step, whose gradients have not changed a weight.
        what: a sentence naming what is not finite.
        samples: indices in the training split; None for a stream, where step and seed determine them.
        is_main_process: whether this process writes the file.

    Raises:
        TrainingError: always.
    """
    path = output_dir / "not_finite.json"
    if is_main_process:
        path.write_text(json.dumps({"step": step, "what": what, "samples": samples}))
    named = "the samples are those of the stream at this step"
    if samples is not None:
        shown = ", ".join(map(str, samples[:16])) + (", ..." if len(samples) > 16 else "")
        named = f"samples of the training split: {shown} (all in {path})"
    raise TrainingError(
        f"step {step}: {what}, {named}; weights and earlier checkpoints are intact, so inspect these samples or lower "
        "the learning rate."
    )
