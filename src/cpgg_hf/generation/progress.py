"""How far a set is, over all processes that work on it, as single lines that can be read in a log."""

import os
import platform
import time
from collections.abc import Callable
from datetime import timedelta

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Prints how many cines are there, the rate and the time left.

    Args:
        total: cines of the whole set.
        count_made: cines that are made, whoever made them, those of unfinished shards included.
    """

    def __init__(self, total: int, count_made: Callable[[], int]) -> None:
        self.total = total
        self._count_made = count_made
        self._start = self._last_line = time.monotonic()
        self._at_start = count_made()
        self._print(self.line(self._at_start, 0.0))

    def report(self) -> None:
        """Prints a line if the last one is `SECONDS_BETWEEN_LINES` old."""
        if time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._print(self.line(self._count_made(), time.monotonic() - self._start))

    def report_finished(self, name: str) -> None:
        """Prints a line that names the shard that this process has finished."""
        self._print(f"{name} finished: {self.line(self._count_made(), time.monotonic() - self._start)}")

    def line(self, done: int, seconds: float) -> str:
        """`300 of 10,000 cines (3.0%), 5.21 cines/s over all processes, 0:31:02 left`."""
        text = f"{done:,} of {self.total:,} cines ({100 * done / self.total:.1f}%)"
        rate = (done - self._at_start) / seconds if seconds > 0 else 0.0
        if rate <= 0:
            return text
        left = timedelta(seconds=round((self.total - done) / rate))
        return f"{text}, {rate:.3g} cines/s over all processes, {left} left"

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        print(f"[{platform.node()} {os.getpid()}] {text}", flush=True)
