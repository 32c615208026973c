"""Reasons to stop a run early: its time limit, or SIGTERM (a pre-empted node)."""

import math
import signal
import time


class StopRequest:
    """True when it is time to save and stop: `max_seconds` have passed, or SIGTERM has arrived."""

    def __init__(self, max_seconds: float | None) -> None:
        self.deadline = math.inf if max_seconds is None else time.monotonic() + max_seconds
        self.reason = f"max_seconds = {max_seconds}"

    def __enter__(self) -> "StopRequest":
        self._previous = signal.signal(signal.SIGTERM, self._terminate)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._previous)

    def _terminate(self, *_: object) -> None:
        self.deadline, self.reason = 0.0, "SIGTERM"

    def __bool__(self) -> bool:
        return time.monotonic() >= self.deadline
