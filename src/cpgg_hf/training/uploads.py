"""`--push_to_hub`: pushes the network of every checkpoint in the background.

It pushes the moving average where there is one. A failed push does not stop the training; it is reported at the end,
and only if no later push succeeded.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from cpgg_hf.data_policy import UNKNOWN_POLICY
from cpgg_hf.errors import TrainingError
from cpgg_hf.release.checkpoint_description import RECORD_FILE
from cpgg_hf.release.model_card import write_model_card
from cpgg_hf.training.checkpoints import RunState
from cpgg_hf.training.policy import source_policies
from cpgg_hf.training.stage import Stage

_LOG_FILE = "log.jsonl"
_STAGING = ".hub"


class RunUploads:
    """The pushes of one run, from its main process; does nothing without `push_to_hub`.

    Raises:
        TrainingError: the network will be restricted, which is known before the first step.
    """

    def __init__(self, stage: Stage, accelerator: Accelerator, output_dir: Path, global_batch_size: int) -> None:
        arguments = stage.arguments
        self.output_dir, self.pushes = output_dir, None
        if not arguments.push_to_hub:
            return
        policy = stage.data_policy()
        repo_id = arguments.hub_model_id or output_dir.resolve().name
        if policy == UNKNOWN_POLICY and not arguments.hub_override_policy:
            raise TrainingError(
                f"the network will be restricted like its sources and is not pushed to {repo_id}; leave out "
                "--push_to_hub, or give the reason to push it with --hub_override_policy."
            )
        if accelerator.is_main_process:
            from cpgg_hf.hub.background import BackgroundPushes

            self.pushes = BackgroundPushes(
                repo_id,
                output_dir / _STAGING,
                private=arguments.hub_private,
                override_policy=arguments.hub_override_policy,
            )
            self.stage, self.hardware, self.global_batch_size = stage, _hardware(accelerator), global_batch_size

    def start(self, folder: Path, state: RunState, last: bool = False) -> None:
        """Push a network with its card in the background; skipped while another push runs, unless it is the last."""
        if self.pushes is None or not folder.is_dir():
            return
        repo_id, record = self.pushes.repo_id, self._record(state)

        def complete(staged: Path) -> None:
            (staged / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            write_model_card(staged, repo_id=repo_id)

        self.pushes.start(folder, complete, wait=last)

    def finish(self) -> None:
        """Wait for the last push and report failures on stderr."""
        if self.pushes is None:
            return
        for error in self.pushes.finish()[-1:]:
            print(f"error: training is complete and saved, but {error}", file=sys.stderr)

    def _record(self, state: RunState) -> dict[str, Any]:
        arguments = asdict(self.stage.arguments)
        run = {
            "run": self.stage.name,
            "steps": f"{state.step:,} of {self.global_batch_size}",
            "minutes": round(state.seconds / 60, 2),
            "reached": _last_validation(self.output_dir / _LOG_FILE),
        }
        # Names, not paths: the record is published.
        data = ", ".join(Path(arguments[name]).name for name in source_policies(self.stage.arguments))
        record: dict[str, Any] = {"data": data, "hardware": self.hardware, "runs": [run]}
        if self.stage.arguments.source_policies:
            record["source_policies"] = self.stage.arguments.source_policies
        return record


def _hardware(accelerator: Accelerator) -> str:
    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return f"{accelerator.num_processes} x {name}"


def _last_validation(log: Path) -> str:
    """`psnr 31.2, ssim 0.94` of the last line that holds a validation."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    for line in reversed(lines):
        figures = {
            key.removeprefix("validation_"): value
            for key, value in json.loads(line).items()
            if key.startswith("validation_")
        }
        if figures:
            return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    return ""
