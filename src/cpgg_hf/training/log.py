"""`log.jsonl`: one JSON line per log step and per validation; `pandas.read_json(path, lines=True)` plots it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class RunLog:
    """Appends lines to `log.jsonl`; a run resumed at `first_step` drops what was logged after it.

    Lines of training hold step, epoch, loss terms, lr, grad_norm, samples_per_second and seconds; lines of
    validation hold step and `validation_...` figures.
    """

    def __init__(self, path: Path, first_step: int, is_main_process: bool = True) -> None:
        self.path = path
        if not is_main_process:
            return
        kept = [line for line in _lines(path) if line["step"] <= first_step] if first_step else []
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
        partial.rename(path)

    def write(self, **values: Any) -> str:
        """Append one line; returns it in short form, for the screen."""
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")
        return "  ".join(f"{key} {value:.6g}" for key, value in values.items())


def _lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:  # the line that a killed run was writing
            continue
    return lines
