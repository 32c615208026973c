"""Pushes in the background; failures are reported at the end."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from cpgg_hf.hub.push import push_folder


class BackgroundPushes:
    """Pushes to one repository, one after the other, each of a folder as it was when the push was started.

    Args:
        repo_id: "owner/name".
        staging: folder on the same disk as the pushed folders; their files are linked there, so that the originals may
            be removed in the meantime.
        options: options of `push_folder`.
    """

    def __init__(self, repo_id: str, staging: Path, **options: Any) -> None:
        self.repo_id, self.staging, self.options = repo_id, staging, options
        self._api = HfApi()  # its worker runs one push at a time
        self._running: Future[str] | None = None
        self._errors: list[Exception] = []
        self._started = 0

    def start(self, folder: Path, complete: Callable[[Path], None] | None = None, wait: bool = False) -> bool:
        """Push a folder in the background; returns whether the push was started.

        Args:
            folder: the folder to push.
            complete: adds files to the linked copy, such as a card.
            wait: wait for a running push, instead of skipping this one.
        """
        if self._running is not None and not self._running.done() and not wait:
            return False
        self._collect()
        self._started += 1
        staged = self.staging / f"{self._started:04d}" / self.repo_id.rsplit("/", 1)[-1]
        shutil.rmtree(self.staging, ignore_errors=True)
        shutil.copytree(folder, staged, copy_function=_link)
        if complete is not None:
            complete(staged)
        self._running = self._api.run_as_future(push_folder, staged, self.repo_id, **self.options)
        return True

    def finish(self) -> list[Exception]:
        """Wait for the last push; returns the errors since the last push that succeeded."""
        self._collect()
        shutil.rmtree(self.staging, ignore_errors=True)
        return self._errors

    def _collect(self) -> None:
        if self._running is None:
            return
        error = self._running.exception()
        self._errors = [] if error is None else [*self._errors, error]  # type: ignore[list-item]
        self._running = None


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # no links on this disk
        shutil.copy2(source, target)
