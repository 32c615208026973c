"""Checkpoints on disk: complete or absent, undamaged, and resumed only by the run that they belong to.

`checksums.json` holds the SHA-256 of every other file; computing them takes a second or two per GB. Checkpoints of
earlier versions have none and are resumed unchecked.
"""

import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from cpgg_hf.errors import TrainingError, brief
from cpgg_hf.files.checksum import checksum
from cpgg_hf.shards.plan import flat
from cpgg_hf.training.arguments import TrainingArguments, compared_fields, default_of, is_required

STATE_FILE, CHECKSUMS_FILE = "run_state.json", "checksums.json"
_TRACES = ("checkpoint-*", "validation", "model", "ema", "log.jsonl")  # that a run leaves in its folder


@dataclass
class RunState:
    """The position of a run, and sums of the loss terms over the `loss_count` steps since the last line of the log.

    Thus the next line does not depend on where the run was interrupted.
    """

    step: int = 0
    seconds: float = 0.0
    loss_sums: dict[str, float] = field(default_factory=dict)
    loss_count: int = 0

    def add(self, terms: dict[str, float]) -> None:
        """Add the terms of a step."""
        for name, value in terms.items():
            self.loss_sums[name] = self.loss_sums.get(name, 0.0) + value
        self.loss_count += 1

    def take_means(self) -> dict[str, float]:
        """The mean terms since the last call."""
        means = {name: total / self.loss_count for name, total in self.loss_sums.items()}
        self.loss_sums, self.loss_count = {}, 0
        return means


def checkpoints_of(output_dir: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [path for path in output_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted((path for path in found if (path / STATE_FILE).is_file()), key=lambda path: int(path.name[11:]))


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder beside `folder` and rename it, so that `folder` is complete or absent."""
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
    """Write `checkpoint-<step>`: accelerate's state, `run_state.json` and the files of `save_extra`.

    All processes call it, and `save_extra` is called on all of them.

    Raises:
        TrainingError: it cannot be written (raised on all processes); earlier checkpoints are intact.
    """
    folder = output_dir / f"checkpoint-{state.step:07d}"
    partial = folder.with_name(f".{folder.name}.partial")

    def begin() -> None:
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)

    def write() -> None:
        accelerator.save_state(str(partial))
        save_extra(partial)

    def complete() -> None:
        if accelerator.is_main_process:
            (partial / STATE_FILE).write_text(
                json.dumps({"state": asdict(state), "identity": identity}, indent=2), encoding="utf-8"
            )
            written = sorted(path for path in partial.rglob("*") if path.is_file())
            checksums = {path.relative_to(partial).as_posix(): checksum(path) for path in written}
            (partial / CHECKSUMS_FILE).write_text(json.dumps(checksums, indent=2), encoding="utf-8")
            rename_folder(partial, folder)
            # Later ones are left over from before a damaged checkpoint, and are not those to keep.
            reached = [path for path in checkpoints_of(output_dir) if path.name <= folder.name]
            # Renamed before it is removed: a run killed meanwhile must not leave a checkpoint that lacks some files.
            for old in reached[: -total_limit if total_limit else 0]:
                old.rename(old.with_name(f".{old.name}.partial"))
            for leftover in output_dir.glob(".checkpoint-*.partial"):
                shutil.rmtree(leftover)

    for action in (begin, write, complete):
        _together(accelerator, action, partial)


def _together(accelerator: Accelerator, action: Callable[[], None], partial: Path) -> None:
    """Let every process write its part; if one of them cannot, all stop, and `partial` is removed."""
    failure = None
    try:
        action()
    except (OSError, RuntimeError, SafetensorError) as error:  # a full disk is any of these
        failure = error
    if accelerator.reduce(torch.tensor(float(failure is not None), device=accelerator.device)) == 0:
        return
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    intact = checkpoints_of(partial.parent)
    raise TrainingError(
        f"cannot write {partial.name.split('.')[1]} ({brief(failure) if failure else 'see the other process'}), but "
        f"{f'{intact[-1]} is intact' if intact else 'there is no earlier one'}; free disk space, then resume with "
        "--resume_from_checkpoint latest."
    ) from failure


def find_checkpoint(output_dir: Path, resume_from: str | None) -> Path | None:
    """The checkpoint that `--resume_from_checkpoint` names; None to start from the beginning.

    `latest` is the newest complete and undamaged one; a warning names those that are passed over.

    Raises:
        TrainingError: it does not exist or is damaged ("latest" begins a new folder, but not one that holds a run), or
            a run without the flag would overwrite another run's checkpoints.
    """
    existing = checkpoints_of(output_dir)
    if resume_from is None:
        if existing:
            raise TrainingError(
                f"{existing[-1]} exists; resume that run with --resume_from_checkpoint latest, or choose another "
                "--output_dir."
            )
        return None
    if resume_from == "latest":
        if not existing and (traces := [path.name for name in _TRACES for path in output_dir.glob(name)]):
            raise TrainingError(
                f"{output_dir} holds a run ({', '.join(traces)}) without a complete checkpoint to resume; leave out "
                "--resume_from_checkpoint to start again, or correct --output_dir."
            )
        return _newest_undamaged(output_dir)
    if not (Path(resume_from) / STATE_FILE).is_file():
        raise TrainingError(
            f"{resume_from} is not a complete checkpoint (no {STATE_FILE}); pass 'latest' or one of: "
            f"{', '.join(map(str, existing)) or 'none in ' + str(output_dir)}."
        )
    read_state(Path(resume_from), verify=True)
    return Path(resume_from)


def _newest_undamaged(output_dir: Path) -> Path | None:
    found = [path for path in output_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    damaged = []
    for path in sorted(found, key=lambda path: int(path.name[11:]), reverse=True):
        try:
            read_state(path, verify=True)
        except TrainingError as error:
            damaged.append(str(error))
            continue
        if damaged and os.environ.get("RANK", "0") == "0":
            warnings.warn(f"{'; '.join(damaged)}; resuming from {path}.", RuntimeWarning, stacklevel=3)
        return path
    if damaged:
        raise TrainingError(f"{output_dir} has no undamaged checkpoint ({damaged[0]}); start in a new --output_dir.")
    return None


def read_state(folder: Path, verify: bool = False) -> dict[str, Any]:
    """The content of a checkpoint's `run_state.json`; `verify` compares all files with their checksums.

    Raises:
        TrainingError: the file, or another file of the checkpoint, is missing or damaged.
    """
    try:
        saved = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        RunState(**saved["state"])
        _ = saved["identity"]["stage"], saved["identity"]["arguments"]
        if verify and (folder / CHECKSUMS_FILE).exists():
            checksums = json.loads((folder / CHECKSUMS_FILE).read_text(encoding="utf-8"))
            for name, expected in checksums.items():
                if checksum(folder / name) != expected:
                    raise ValueError(f"{name} has changed since it was written")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TrainingError(f"the checkpoint {folder} is damaged ({brief(error)})") from error
    return saved


def load_checkpoint(
    accelerator: Accelerator, folder: Path, identity: dict[str, Any], arguments_class: type[TrainingArguments]
) -> RunState:
    """Restore weights, optimizer, scheduler, EMA and RNG from `folder`; returns the position of the run.

    Settings that did not exist yet when the checkpoint was written are compared by their defaults.

    Raises:
        TrainingError: the checkpoint belongs to another version, stage, configuration or data set, or is damaged.
    """
    saved = read_state(folder)
    if saved["identity"].get("format") != identity["format"]:
        raise TrainingError(
            f"{folder} was written by another version of cpgg_hf and cannot be resumed; start a new run in another "
            "--output_dir."
        )
    optional = [entry for entry in compared_fields(arguments_class) if not is_required(entry)]
    defaults = {entry.name: default_of(entry) for entry in optional}
    saved["identity"]["arguments"] = {**defaults, **saved["identity"]["arguments"]}
    differences = _differences(saved["identity"], identity)
    if differences:
        raise TrainingError(
            f"{folder} belongs to another run ({'; '.join(differences)}); use its settings, or start a new run in "
            "another --output_dir."
        )
    try:
        accelerator.load_state(str(folder))
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        earlier = [str(one) for one in checkpoints_of(folder.parent) if one < folder]
        remedy = f"resume from an earlier one ({', '.join(earlier)})" if earlier else "start a new run"
        raise TrainingError(f"{folder} is damaged ({brief(error)}); {remedy}.") from error
    return RunState(**saved["state"])


def _differences(saved: dict[str, Any], given: dict[str, Any]) -> list[str]:
    if saved["stage"] != given["stage"]:
        return [f"it belongs to the stage {saved['stage']!r}, this is {given['stage']!r}"]
    before, now = flat(saved), flat(given)
    pairs = {key: (before.get(key, "absent"), now.get(key, "absent")) for key in sorted({*before, *now})}
    return [f"{key} was {old} and is {new}" for key, (old, new) in pairs.items() if old != new]
