"""The progress of one worker's share, as single lines for a log."""

import os
import platform
import time
from datetime import timedelta

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Prints how many cines are finished, the rate and the time left.

    Args:
        total: cines of the share.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._made, self._ended = 0, False
        self._start = self._last_line = time.monotonic()

    def report(self, done: int, made: int = 0) -> None:
        """Print a line if the last one is `SECONDS_BETWEEN_LINES` old, or if everything is done.

        Args:
            done: cines that are finished.
            made: how many of them were made since the last call.
        """
        self._made += made
        now = time.monotonic()
        ends = done == self.total and not self._ended
        if ends or now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line, self._ended = now, self._ended or ends
            line = self.line(done, now - self._start)
            print(f"[{platform.node()} {os.getpid()}] {line}", flush=True)

    def line(self, done: int, seconds: float) -> str:
        """`300 of 10,000 cines (3.0%), 5.21 cines/s, 0:31:02 left`."""
        text = f"{done:,} of {self.total:,} cines ({100 * done / self.total:.1f}%)"
        if not self._made:
            return text
        rate = self._made / max(seconds, 1e-9)
        return f"{text}, {rate:.3g} cines/s, {timedelta(seconds=round((self.total - done) / rate))} left"
