"""The progress of one worker's share, as single lines for a log."""

import os
import platform
import sys
import time
from datetime import timedelta

from cpgg_hf.shards import Shard

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Prints how many cines are finished, the rate and the time left, at most every `SECONDS_BETWEEN_LINES`.

    The lines are `[host process] 300 of 10,000 cines (3.0%), 5.21 cines/s, 0:31:02 left`.

    Args:
        total: cines of the share.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._in_complete_shards = self._in_this_shard = self._made = 0
        self._ended = False
        self._start = self._last_line = time.monotonic()

    def cines_made(self, count: int) -> None:
        """Note that `count` cines of the current shard are finished."""
        self._made += count - self._in_this_shard
        self._in_this_shard = count
        self._print()

    def shard_complete(self, shard: Shard) -> None:
        """Note that a shard is complete, made now or before."""
        self._in_complete_shards += len(shard)
        self._in_this_shard = 0
        self._print()

    def _print(self) -> None:
        done, now = self._in_complete_shards + self._in_this_shard, time.monotonic()
        complete = self._in_complete_shards == self._total
        if done == self._total and not complete:
            return  # the last cines are made, but their shard is not written yet
        ends = complete and not self._ended
        if not ends and now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line, self._ended = now, self._ended or ends
        line = f"{done:,} of {self._total:,} cines ({100 * done / self._total:.1f}%)"
        if self._made:
            rate = self._made / max(now - self._start, 1e-9)
            line += f", {rate:.3g} cines/s, {timedelta(seconds=round((self._total - done) / rate))} left"
        print(f"[{platform.node()} {os.getpid()}] {line}", file=sys.stderr, flush=True)
