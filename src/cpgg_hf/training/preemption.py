"""Reasons to stop a run early: its time limit, SIGTERM (a pre-empted node), or Ctrl-C."""

import math
import signal
import time

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """True when it is time to save and stop: `max_seconds` have passed, or SIGTERM or SIGINT (Ctrl-C) has arrived.

    Before the run has `begun` there is nothing to save, so a signal raises KeyboardInterrupt; so does a second Ctrl-C.
    """

    def __init__(self, max_seconds: float | None) -> None:
        self.deadline = math.inf if max_seconds is None else time.monotonic() + max_seconds
        self.reason = f"max_seconds = {max_seconds}"
        self.begun = False

    def __enter__(self) -> "StopRequest":
        self._previous = {number: signal.signal(number, self._request) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, _: object) -> None:
        name = signal.Signals(number).name
        if not self.begun or (number == signal.SIGINT and self.reason == name):
            raise KeyboardInterrupt
        self.deadline, self.reason = 0.0, name

    def __bool__(self) -> bool:
        return time.monotonic() >= self.deadline
