"""`log.jsonl`: one JSON line per log step and per validation, for `pandas.read_json(path, lines=True)`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class RunLog:
    """Appends lines to `log.jsonl`; a run resumed at `first_step` drops later lines.

    Training lines hold step, epoch, loss terms, lr, grad_norm, throughput and seconds; validation lines hold step and
    `validation_...` figures.
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
        """Append one line; returns a short form to print."""
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")
        return "  ".join(f"{key} {value:.6g}" for key, value in values.items())


def _lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:  # incomplete line of a killed run
            continue
    return lines
