"""Runs on real processes: several equal one, and what kills a run costs nothing but the time since its checkpoint."""

import os
import random
import re
import signal

import pytest
import torch
from safetensors.torch import load_file

from .conftest import TINY_MAR, TINY_VAE, assert_same_run, weights
from .processes import Processes

STEADY = {"max_train_steps": 20, "validation_steps": 100, "checkpointing_steps": 10, "logging_steps": 20}


@pytest.fixture(params=["vae", "mar"])
def stage(request, settings, vae):
    """A stage's name, its tiny network without dropout, and its settings."""
    if request.param == "vae":
        return "vae", TINY_VAE, settings
    return "mar", {**TINY_MAR, "dropout": 0.0}, {**settings, "vae": str(vae), "missing_probability": 0.5}


def difference(first, second):
    """||first - second|| / ||first|| over all weights."""
    one, other = weights(first), weights(second)
    squared = sum((one[name] - other[name]).double().square().sum() for name in one)
    return float((squared / sum(tensor.double().square().sum() for tensor in one.values())).sqrt())


def learn(stage, folder, num_processes, **changes):
    name, model, settings = stage
    settings = settings | STEADY | {"output_dir": str(folder)}
    run = Processes(f"{name}64", model, settings, num_processes, **changes)
    assert run.join() == [{"num_processes": num_processes, "step": 20}] * num_processes
    return folder / "model"


def test_two_processes_learn_what_one_learns_from_twice_the_batch(stage, tmp_path):
    one = learn(stage, tmp_path / "one", 1)
    two = learn(stage, tmp_path / "two", 2, batch_size=2)
    assert next(iter(weights(one).values())).dtype == torch.float64
    assert difference(one, two) <= 1e-5
    assert difference(*(tmp_path / "one" / f"checkpoint-00000{step}" for step in (10, 20))) > 1e-3, "nothing learned"


def test_with_a_discriminator_too_two_processes_learn_what_one_learns(settings, tmp_path):
    """Uneven parts of 3 samples; the discriminator learns the same as well, and the adaptive weight is shared."""
    settings |= {"adversarial_weight": 0.5, "adversarial_start_step": 5, "discriminator_channels": 4}
    stage = "vae", TINY_VAE, {**settings, "discriminator_layers": 1, "global_batch_size": 3}
    one, two = learn(stage, tmp_path / "one", 1), learn(stage, tmp_path / "two", 2, batch_size=2)
    assert difference(one, two) <= 1e-5
    first, second = (load_file(model.parent / "checkpoint-0000020" / "model_1.safetensors") for model in (one, two))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-5, atol=1e-7)


def test_uneven_parts_in_turns_learn_what_one_batch_teaches(settings, vae, tmp_path):
    """6 samples a step: at once, or on two processes in parts of 2, 2, then 1, 1."""
    stage = "mar", {**TINY_MAR, "dropout": 0.0}, {**settings, "vae": str(vae)}
    one = learn(stage, tmp_path / "one", 1, batch_size=6)
    assert difference(one, learn(stage, tmp_path / "turns", 2, batch_size=2, global_batch_size=6)) <= 1e-5


def assert_same_checkpoint(first, second):
    """Weights, moving averages, optimizer, schedule and state, to the last bit."""
    assert {path.name for path in first.iterdir()} == {path.name for path in second.iterdir()}
    for path in first.glob("*.safetensors"):
        one, other = load_file(path), load_file(second / path.name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), path.name
    for path in [*first.glob("optimizer*.bin"), *first.glob("*.pkl")]:
        one, other = (torch.load(folder / path.name, weights_only=False) for folder in (first, second))
        assert_equal(one, other, path.name)
    one, other = (
        re.sub(r'"seconds": [\d.]+', "", (folder / "run_state.json").read_text()) for folder in (first, second)
    )
    assert one == other


def assert_equal(one, other, where):
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}: {key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, parts in enumerate(zip(one, other, strict=True)):
            assert_equal(*parts, f"{where}: {index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert str(one) == str(other), where


@pytest.mark.parametrize(("name", "num_processes"), [("vae", 1), ("mar", 2)])
def test_killed_at_random_a_run_ends_as_if_undisturbed(name, num_processes, settings, vae, tmp_path):
    """Killed twice at moments that nobody chose, while steps run or a checkpoint is being written."""
    model = {"vae": TINY_VAE, "mar": TINY_MAR}[name]
    settings |= {"max_train_steps": 16, "checkpointing_steps": 2, "validation_steps": 8, "logging_steps": 3}
    settings |= {"vae": str(vae)} if name == "mar" else {}
    finished = [{"num_processes": num_processes, "step": 16}] * num_processes
    undisturbed = Processes(name, model, settings, num_processes, output_dir=str(tmp_path / "undisturbed"))
    assert undisturbed.join() == finished
    seed = int.from_bytes(os.urandom(4), "little")
    chance = random.Random(seed)
    for first in sorted(chance.sample(range(2, 14, 2), 2)):
        run = Processes(name, model, settings, num_processes, resume_from_checkpoint="latest")
        run.wait_for(f"checkpoint-{first:07d}")
        run.wait_for(chance.choice([".checkpoint-{:07d}.partial", "checkpoint-{:07d}"]).format(first + 2))
        assert run.kill() == [None] * num_processes, f"seed {seed}"
    last = Processes(name, model, settings, num_processes, resume_from_checkpoint="latest")
    assert last.join() == finished, f"seed {seed}"
    assert_same_run(tmp_path / "undisturbed", tmp_path / "run")
    assert_same_checkpoint(*(tmp_path / part / "checkpoint-0000016" for part in ("undisturbed", "run")))


def test_a_checkpoint_whose_writing_was_killed_is_never_picked_up(settings, tmp_path):
    settings |= {"checkpointing_steps": 2}
    broken = Processes("vae", TINY_VAE, settings, die_while_saving="checkpoint-0000004")
    assert broken.join() == [None]
    assert (tmp_path / "run" / ".checkpoint-0000004.partial" / "run_state.json").exists()
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-0000002"]
    Processes("vae", TINY_VAE, settings, resume_from_checkpoint="latest").join()
    Processes("vae", TINY_VAE, settings, output_dir=str(tmp_path / "undisturbed")).join()
    assert_same_run(tmp_path / "undisturbed", tmp_path / "run")
    assert not list((tmp_path / "run").glob(".*.partial"))


def test_a_process_that_is_asked_to_end_takes_the_others_along(settings, tmp_path):
    settings |= {"max_train_steps": 100000, "checkpointing_steps": 5, "batch_size": 2}
    run = Processes("vae", TINY_VAE, settings, num_processes=2)
    run.wait_for("checkpoint-0000005")
    run.signal(signal.SIGTERM, rank=1)
    first, second = run.join()
    assert first == second
    assert first["num_processes"] == 2
    assert (tmp_path / "run" / f"checkpoint-{first['step']:07d}" / "run_state.json").exists()


def test_a_run_resumes_with_other_processes(settings, vae, tmp_path):
    """Begun on one, continued on two: the same samples and noise, rounded otherwise."""
    job = "mar64", {**TINY_MAR, "dropout": 0.0}, settings | STEADY | {"vae": str(vae), "global_batch_size": 4}
    Processes(*job, output_dir=str(tmp_path / "undisturbed")).join()
    assert Processes(*job, max_seconds=0.0).join()[0]["step"] == 1
    two = Processes(*job, num_processes=2, resume_from_checkpoint="latest")
    assert two.join() == [{"num_processes": 2, "step": 20}] * 2
    assert difference(tmp_path / "undisturbed" / "model", tmp_path / "run" / "model") <= 1e-5
    grown = Processes(*job, resume_from_checkpoint="latest", global_batch_size=8)
    assert "global_batch_size was 4 and is 8" in grown.join()[0]["error"]


def test_a_full_disk_leaves_the_last_checkpoint_intact(settings, tmp_path):
    settings |= {"validation_steps": 6}
    run = Processes("vae", TINY_VAE, settings, max_seconds=0.0)
    assert run.join()[0]["step"] == 1
    full = {"resume_from_checkpoint": "latest", "file_size_limit": 10_000}
    (outcome,) = Processes("vae", TINY_VAE, settings, **full).join()
    assert "cannot write checkpoint-0000003" in outcome["error"]
    assert "checkpoint-0000001 is intact; free disk space" in outcome["error"]
    assert [path.name for path in (tmp_path / "run").glob("*checkpoint-*")] == ["checkpoint-0000001"]
    assert Processes("vae", TINY_VAE, settings, resume_from_checkpoint="latest").join()[0]["step"] == 6
