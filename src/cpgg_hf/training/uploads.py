"""`--push_to_hub`: pushes the network of every checkpoint in the background.

It pushes the moving average where there is one. A failed push does not stop the training; it is reported at the end,
and only if no later push succeeded.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from cpgg_hf.data_policy import UNKNOWN_POLICY
from cpgg_hf.errors import TrainingError
from cpgg_hf.files.policy_record import record_policy
from cpgg_hf.hub.background import BackgroundPushes
from cpgg_hf.release.checkpoint_description import RECORD_FILE
from cpgg_hf.release.model_card import write_model_card
from cpgg_hf.training.checkpoints import RunState
from cpgg_hf.training.stage import Stage, source_policies
from cpgg_hf.training.tracking import RunLog


class RunUploads:
    """The pushes of one run, from its main process; does nothing without `push_to_hub`.

    Raises:
        TrainingError: the network will be restricted, which is known before the first step.
    """

    def __init__(self, stage: Stage, accelerator: Accelerator, output_dir: Path, global_batch_size: int) -> None:
        arguments = stage.arguments
        self.stage, self.global_batch_size, self.pushes = stage, global_batch_size, None
        if not arguments.push_to_hub:
            return
        repo_id = arguments.hub_model_id or output_dir.resolve().name
        if stage.data_policy() == UNKNOWN_POLICY and not arguments.hub_override_policy:
            raise TrainingError(
                f"the network will be restricted like its sources and is not pushed to {repo_id}; leave out "
                "--push_to_hub, or give the reason to push it with --hub_override_policy."
            )
        if accelerator.is_main_process:
            options = {"private": arguments.hub_private, "override_policy": arguments.hub_override_policy}
            self.pushes = BackgroundPushes(repo_id, output_dir / ".hub", **options)
            device = accelerator.device
            name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
            self.hardware = f"{accelerator.num_processes} x {name}"

    def start(self, folder: Path, state: RunState, log: RunLog, last: bool = False) -> None:
        """Push a network with its card in the background; skipped while another push runs, unless it is the last."""
        if self.pushes is None or not folder.is_dir():
            return
        repo_id, record = self.pushes.repo_id, self._record(state, log)

        def complete(staged: Path) -> None:
            (staged / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            record_policy(staged, self.stage.data_policy(), [staged / RECORD_FILE])
            write_model_card(staged, repo_id=repo_id)

        self.pushes.start(folder, complete, wait=last)

    def finish(self) -> None:
        """Wait for the last push and report failures on stderr."""
        for error in self.pushes.finish()[-1:] if self.pushes is not None else ():
            print(f"error: training is complete and saved, but {error}", file=sys.stderr)

    def _record(self, state: RunState, log: RunLog) -> dict[str, Any]:
        arguments = self.stage.arguments
        run = {
            "run": self.stage.name,
            "steps": f"{state.step:,} (batch {self.global_batch_size})",
            "minutes": round(state.seconds / 60, 2),
            "reached": ", ".join(f"{name} {value:.4g}" for name, value in log.last_validation().items()),
        }
        # Names, not paths: the record is published.
        data = ", ".join(Path(getattr(arguments, name)).name for name in source_policies(arguments))
        record: dict[str, Any] = {"data": data, "hardware": self.hardware, "runs": [run]}
        if arguments.source_policies:
            record["source_policies"] = arguments.source_policies
        return record
