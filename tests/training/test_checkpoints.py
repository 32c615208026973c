"""A checkpoint that cannot be restored names what to do instead."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from cpgg_hf.errors import TrainingError
from cpgg_hf.training.arguments import TrainingArguments, compared_fields, default_of, is_required
from cpgg_hf.training.checkpoints import STATE_FILE, RunState, load_checkpoint

IDENTITY = {"format": 1, "stage": "vae", "arguments": {}}


def _damaged(_):
    raise OSError("truncated")


@pytest.mark.parametrize(
    ("steps", "remedy"),
    [([2], "start a new run"), ([1, 2, 3], r"resume from an earlier one \(.*checkpoint-0000001\)")],
)
def test_a_damaged_checkpoint_names_earlier_ones_or_a_new_run(tmp_path, steps, remedy):
    for step in steps:
        folder = tmp_path / f"checkpoint-{step:07d}"
        folder.mkdir()
        (folder / STATE_FILE).write_text(json.dumps({"state": asdict(RunState()), "identity": IDENTITY}))
    fields = [one for one in compared_fields(TrainingArguments) if not is_required(one)]
    given = IDENTITY | {"arguments": {one.name: default_of(one) for one in fields}}
    with pytest.raises(TrainingError, match=rf"checkpoint-0000002 is damaged \(truncated\); {remedy}\.$"):
        load_checkpoint(
            SimpleNamespace(load_state=_damaged), tmp_path / "checkpoint-0000002", given, TrainingArguments
        )
