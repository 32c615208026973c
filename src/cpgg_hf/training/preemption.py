"""When a run stops before its end: its time is over, its node is taken away, or a batch breaks it."""

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
    """Say which samples broke a step, in `not_finite.json` and in the error that ends the run.

    Args:
        output_dir: of the run.
        step: none of whose gradients has changed a weight.
        what: is not finite.
        samples: of the training split; None where a stream gave them, which step and seed determine.
        is_main_process: writes the file.

    Raises:
        TrainingError: always.
    """
    path = output_dir / "not_finite.json"
    if is_main_process:
        path.write_text(json.dumps({"step": step, "what": what, "samples": samples}))
    named = "samples: those that the stream gives at this step"
    if samples is not None:
        shown = ", ".join(map(str, samples[:16])) + (", ..." if len(samples) > 16 else "")
        named = f"samples of the training split: {shown} (all in {path})"
    raise TrainingError(
        f"step {step}: {what}; {named}. Weights were not changed by this batch and earlier checkpoints are intact: "
        "look at these samples, or lower the learning rate."
    )
