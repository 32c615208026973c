"""The precision of a run: the script's own argument, else that of `accelerate launch`."""

from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import AcceleratorState
from accelerate.utils.launch import prepare_simple_launcher_cmd_env

from cpgg_hf.errors import TrainingError
from cpgg_hf.training.setup import make_accelerator
from cpgg_hf.training.stages.vae import VAEArguments

LAUNCH = Path(__file__).parents[2] / "training_scripts" / "launch"


@pytest.fixture(autouse=True)
def _new_process():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def used(settings, monkeypatch, launched=(), **changes):
    """The precision under `accelerate launch` with these flags, whose environment it computes itself."""
    if launched:
        given = launch_command_parser().parse_args([*launched, "train.py"])
        given, *_ = _validate_launch_command(given)
        _, environment = prepare_simple_launcher_cmd_env(given)
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", environment["ACCELERATE_MIXED_PRECISION"])
    arguments = VAEArguments(**settings, **changes)
    accelerator, _ = make_accelerator(arguments)
    assert arguments.mixed_precision == accelerator.mixed_precision
    assert accelerator.native_amp == (accelerator.mixed_precision != "no")
    return accelerator.mixed_precision


def test_the_launchers_precision_counts_unless_the_script_is_given_one(settings, monkeypatch):
    assert used(settings, monkeypatch) == "no"
    AcceleratorState._reset_state(reset_partial_state=True)
    assert used(settings, monkeypatch, mixed_precision="bf16") == "bf16"
    AcceleratorState._reset_state(reset_partial_state=True)
    flags = ["--cpu", "--mixed_precision", "bf16"]
    assert used(settings, monkeypatch, flags) == "bf16"
    AcceleratorState._reset_state(reset_partial_state=True)
    assert used(settings, monkeypatch, flags, mixed_precision="no") == "no"


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_launch_files_train_in_bfloat16(path, settings, monkeypatch):
    assert used(settings, monkeypatch, ["--config_file", str(path)]) == "bf16"


def test_a_precision_that_would_be_ignored_is_refused(settings, monkeypatch):
    with pytest.raises(TrainingError, match=r"mixed_precision fp16 is not available on this device \(cpu\)"):
        used(settings, monkeypatch, mixed_precision="fp16")
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "foo")
    with pytest.raises(TrainingError, match="launched with mixed_precision 'foo'; expected one of no, fp16, bf16"):
        used(settings, monkeypatch)
