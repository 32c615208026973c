"""Checkpoints on disk: written whole or not at all, picked up only by the run that they belong to."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from cpgg_hf.training.errors import TrainingError

STATE_FILE = "run_state.json"


@dataclass
class RunState:
    """Where a run stands; everything that weights, optimizer, scheduler and RNG states do not hold.

    `loss_sums` and `loss_count` are the terms since the last line of the log, so that the next line does not
    depend on where the run was interrupted.
    """

    step: int = 0
    seconds: float = 0.0
    loss_sums: dict[str, float] = field(default_factory=dict)
    loss_count: int = 0


def checkpoints_of(output_dir: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [path for path in output_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted((path for path in found if (path / STATE_FILE).is_file()), key=lambda path: int(path.name[11:]))


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder beside `folder` and rename it, so that `folder` is whole or absent."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    rename_folder(partial, folder)


def rename_folder(partial: Path, folder: Path) -> None:
    """Flush `partial` to the disk and give it its name."""
    for path in (*partial.rglob("*"), partial):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def save_checkpoint(
    accelerator: Accelerator,
    output_dir: Path,
    state: RunState,
    identity: dict[str, Any],
    total_limit: int | None,
    save_extra: Callable[[Path], None],
) -> None:
    """Write `checkpoint-<step>`: accelerate's state, `run_state.json`, what `save_extra` puts there (main process)."""
    folder = output_dir / f"checkpoint-{state.step:07d}"
    partial = folder.with_name(f".{folder.name}.partial")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        save_extra(partial)
        (partial / STATE_FILE).write_text(json.dumps({"state": asdict(state), "identity": identity}, indent=2))
        rename_folder(partial, folder)
        # Renamed before it is removed: a run killed meanwhile must not leave a checkpoint that lacks some files.
        for old in checkpoints_of(output_dir)[: -total_limit if total_limit else 0]:
            old.rename(old.with_name(f".{old.name}.partial"))
        for leftover in output_dir.glob(".checkpoint-*.partial"):
            shutil.rmtree(leftover)
    accelerator.wait_for_everyone()


def find_checkpoint(output_dir: Path, resume_from: str | None) -> Path | None:
    """The checkpoint that `--resume_from_checkpoint` names; None to start from the beginning.

    Raises:
        TrainingError: it does not exist, or a run without the flag would write over another run's checkpoints.
    """
    existing = checkpoints_of(output_dir)
    if resume_from is None:
        if existing:
            raise TrainingError(
                f"{existing[-1]} exists: continue that run with --resume_from_checkpoint latest, or choose another "
                "--output_dir."
            )
        return None
    if resume_from == "latest":
        return existing[-1] if existing else None
    if not (Path(resume_from) / STATE_FILE).is_file():
        raise TrainingError(
            f"{resume_from} is no complete checkpoint (it has no {STATE_FILE}); pass 'latest' or one of: "
            f"{', '.join(map(str, existing)) or 'none in ' + str(output_dir)}."
        )
    return Path(resume_from)


def load_checkpoint(
    accelerator: Accelerator, folder: Path, identity: dict[str, Any], defaults: dict[str, Any]
) -> RunState:
    """Restore weights, optimizer, scheduler, EMA and RNG from `folder`; returns where the run stood.

    `defaults` stand for settings that did not exist yet when the checkpoint was written.

    Raises:
        TrainingError: the checkpoint belongs to another stage, configuration, data set or number of processes.
    """
    saved = json.loads((folder / STATE_FILE).read_text())
    saved["identity"]["arguments"] = {**defaults, **saved["identity"]["arguments"]}
    differences = _differences(saved["identity"], identity)
    if differences:
        raise TrainingError(
            f"{folder} cannot be resumed here: {'; '.join(differences)}. Use the same settings, or start anew in "
            "another --output_dir."
        )
    accelerator.load_state(str(folder))
    return RunState(**saved["state"])


def _differences(saved: dict[str, Any], given: dict[str, Any]) -> list[str]:
    if saved["stage"] != given["stage"]:
        return [f"it belongs to the stage {saved['stage']!r}, this is {given['stage']!r}"]
    flat_saved, flat_given = _flatten(saved), _flatten(given)
    absent = "absent"
    return [
        f"{key} was {flat_saved.get(key, absent)} and is {flat_given.get(key, absent)}"
        for key in sorted({*flat_saved, *flat_given})
        if flat_saved.get(key, absent) != flat_given.get(key, absent)
    ]


def _flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat.update(_flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
