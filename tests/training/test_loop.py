"""What a user relies on when a run is interrupted, resumed or refused."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from cpgg_hf.errors import OutputError, TrainingError
from cpgg_hf.shards import locked
from cpgg_hf.training.checkpoints import find_checkpoint
from cpgg_hf.training.data_order import BatchPlan, DataOrder
from cpgg_hf.training.loop import launch
from cpgg_hf.training.stages.mar import MARStage
from cpgg_hf.training.stages.phenotype_vae import PhenotypeVAEStage
from cpgg_hf.training.stages.vae import VAEStage

from .conftest import TINY_MAR, TINY_PHENOTYPE_VAE, TINY_VAE, assert_same_run, log_of, run, weights, write_data

SCRIPTS = Path(__file__).parents[2] / "training_scripts"


@pytest.fixture(params=["vae", "mar", "phenotype_vae"])
def stage(request, settings, vae, phenotype_tables):
    """A stage, its tiny network and its settings."""
    if request.param == "vae":
        return VAEStage, TINY_VAE, settings
    if request.param == "phenotype_vae":
        return PhenotypeVAEStage, TINY_PHENOTYPE_VAE, {**settings, **phenotype_tables, "batch_size": 16}
    return MARStage, TINY_MAR, {**settings, "vae": str(vae), "missing_probability": 0.5}


def test_a_resumed_run_equals_an_undisturbed_one(stage, tmp_path):
    undisturbed = run(*stage, output_dir=str(tmp_path / "undisturbed"))
    assert undisturbed.step == 6
    assert run(*stage, max_seconds=0.0).step == 1
    assert run(*stage, resume_from_checkpoint="latest", max_seconds=0.0).step == 2
    assert run(*stage, resume_from_checkpoint="latest").step == 6
    assert_same_run(tmp_path / "undisturbed", tmp_path / "run")


def test_gradient_accumulation_and_clipping_resume_too(settings, tmp_path):
    settings |= {"gradient_accumulation_steps": 2, "batch_size": 2, "lr_scheduler": "linear", "num_workers": 1}
    run(VAEStage, TINY_VAE, settings, output_dir=str(tmp_path / "undisturbed"))
    run(VAEStage, TINY_VAE, settings, max_seconds=0.0)
    run(VAEStage, TINY_VAE, settings, resume_from_checkpoint="latest")
    assert_same_run(tmp_path / "undisturbed", tmp_path / "run")


def test_old_checkpoints_go(settings, tmp_path):
    run(VAEStage, TINY_VAE, settings, checkpointing_steps=1, checkpoints_total_limit=2)
    kept = sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*"))
    assert kept == ["checkpoint-0000005", "checkpoint-0000006"]


def test_the_launch_line_for_two_processes(settings, tmp_path):
    """torchrun starts the script twice over gloo; both train together."""
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps({**settings, "batch_size": 2, "model": TINY_VAE}))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "HF_DATASETS_CACHE": str(datasets.config.HF_DATASETS_CACHE),
    }
    done = subprocess.run(
        [*launcher, str(SCRIPTS / "train_vae.py"), "--config", str(config)],
        env={**os.environ, **environment}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"2 process\(es\), 4 samples per step", done.stdout), done.stdout
    assert {path.name for path in (tmp_path / "run" / "checkpoint-0000006").glob("random_states_*")} == {
        "random_states_0.pkl",
        "random_states_1.pkl",
    }
    assert [line["step"] for line in log_of(tmp_path / "run") if "loss" in line] == [2, 4, 6]


def test_a_half_written_checkpoint_is_never_picked_up(settings, tmp_path):
    folder = tmp_path / "run"
    run(VAEStage, TINY_VAE, settings, max_seconds=0.0)
    whole = folder / "checkpoint-0000001"
    shutil.copytree(whole, folder / ".checkpoint-0000004.partial")
    shutil.copytree(whole, folder / "checkpoint-0000005")
    (folder / "checkpoint-0000005" / "run_state.json").unlink()
    with pytest.warns(RuntimeWarning, match="checkpoint-0000005 is damaged.*resuming from .*checkpoint-0000001"):
        assert run(VAEStage, TINY_VAE, settings, resume_from_checkpoint="latest", max_seconds=0.0).step == 2
    assert not list(folder.glob(".*.partial"))
    with pytest.raises(TrainingError, match="not a complete checkpoint"):
        run(VAEStage, TINY_VAE, settings, resume_from_checkpoint=str(folder / "checkpoint-0000005"))


def test_a_changed_bit_in_any_file_is_noticed_and_latest_is_the_newest_undamaged_one(settings, tmp_path):
    folder = tmp_path / "run"
    limits = {"checkpointing_steps": 1, "checkpoints_total_limit": 2}
    run(VAEStage, TINY_VAE, settings, **limits, max_train_steps=3)
    older, newest = (folder / f"checkpoint-000000{step}" for step in (2, 3))
    generator = np.random.default_rng(0)
    for path in sorted(path for path in newest.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[generator.integers(len(whole))] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        with pytest.warns(RuntimeWarning, match=f"{newest.name} is damaged .*; resuming from {older}"):
            assert find_checkpoint(folder, "latest") == older, path
        with pytest.raises(TrainingError, match=f"{newest.name} is damaged"):
            find_checkpoint(folder, str(newest))
        path.write_bytes(whole)
    assert find_checkpoint(folder, "latest") == newest
    (newest / "run_state.json").write_text("[" * 100_000)
    with pytest.warns(RuntimeWarning, match="is damaged"):
        assert run(VAEStage, TINY_VAE, settings, **limits, resume_from_checkpoint="latest").step == 6
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-0000005", "checkpoint-0000006"]
    for path in folder.glob("checkpoint-*/run_state.json"):
        path.write_text("{}")
    with pytest.raises(TrainingError, match="has no undamaged checkpoint"):
        find_checkpoint(folder, "latest")


def test_foreign_checkpoints_are_refused(settings, vae, tmp_path):
    run(VAEStage, TINY_VAE, settings, max_seconds=0.0)
    resume = {**settings, "resume_from_checkpoint": "latest"}
    with pytest.raises(TrainingError, match="stage 'vae', this is 'mar'"):
        run(MARStage, TINY_MAR, resume, vae=str(vae))
    with pytest.raises(TrainingError, match=r"arguments.learning_rate was 0.01 and is 0.001"):
        run(VAEStage, TINY_VAE, resume, learning_rate=1e-3)
    with pytest.raises(TrainingError, match=r"arguments.model.latent_channels was 2 and is 3"):
        run(VAEStage, {**TINY_VAE, "latent_channels": 3}, resume)
    with pytest.raises(TrainingError, match="data_fingerprint was"):
        run(VAEStage, TINY_VAE, resume, data=str(write_data(tmp_path / "other", seed=1)))
    with pytest.raises(TrainingError, match="resume that run with --resume_from_checkpoint latest"):
        run(VAEStage, TINY_VAE, settings)


def test_a_setting_newer_than_the_checkpoint_counts_as_its_default(settings, tmp_path):
    run(VAEStage, TINY_VAE, settings, max_seconds=0.0)
    path = tmp_path / "run" / "checkpoint-0000001" / "run_state.json"
    written = json.loads(path.read_text())
    del written["identity"]["arguments"]["kl_weight"]
    path.write_text(json.dumps(written))
    path.with_name("checksums.json").unlink()
    resume = {**settings, "resume_from_checkpoint": "latest", "max_seconds": 0.0}
    with pytest.raises(TrainingError, match=r"kl_weight was 1e-06 and is 0\.5"):
        run(VAEStage, TINY_VAE, resume, kl_weight=0.5)
    assert run(VAEStage, TINY_VAE, resume).step == 2


def test_a_checkpoint_of_an_earlier_version_is_refused_in_one_sentence(settings, tmp_path):
    run(VAEStage, TINY_VAE, settings, max_seconds=0.0)
    path = tmp_path / "run" / "checkpoint-0000001" / "run_state.json"
    written = json.loads(path.read_text())
    del written["identity"]["format"]
    path.write_text(json.dumps(written))
    path.with_name("checksums.json").unlink()
    with pytest.raises(TrainingError, match="was written by another version of cpgg_hf and cannot be resumed"):
        run(VAEStage, TINY_VAE, settings, resume_from_checkpoint="latest")


class NaNStage(VAEStage):
    """The VAE stage on a cine that breaks the loss from the third step on."""

    calls = 0

    def loss(self, network, batch, randomness):
        terms = super().loss(network, batch, randomness)
        type(self).calls += 1  # once before the first step, for its FLOPs
        return {**terms, "loss": terms["loss"] * float("nan")} if self.calls > 3 else terms


def test_a_loss_that_is_not_finite_stops_with_the_samples_named(settings, tmp_path):
    with pytest.raises(
        TrainingError, match=r"step 2: the loss is not finite.*samples of the training split"
    ) as raised:
        run(NaNStage, TINY_VAE, settings, checkpointing_steps=1)
    expected = DataOrder(24, BatchPlan(4, 1, 1), seed=3).global_batch(2).tolist()
    assert ", ".join(map(str, expected)) in str(raised.value)
    assert json.loads((tmp_path / "run" / "not_finite.json").read_text())["samples"] == expected
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run" / "checkpoint-0000002").values())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_and_ctrl_c_save_before_they_stop(settings, tmp_path, number):
    class PreemptedStage(VAEStage):
        def loss(self, network, batch, randomness):
            if network.training:
                os.kill(os.getpid(), number)
            return super().loss(network, batch, randomness)

    before = signal.getsignal(number)
    assert run(PreemptedStage, TINY_VAE, settings).step == 1
    assert (tmp_path / "run" / "checkpoint-0000001" / "run_state.json").exists()
    assert not list((tmp_path / "run").rglob(".*.partial*"))
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_before_the_first_step_a_run_ends_at_once_in_one_sentence(settings, capsys, monkeypatch, number):
    monkeypatch.setattr(VAEStage, "build", lambda stage: os.kill(os.getpid(), number))
    flags = [f"--{key}={settings[key]}" for key in ("data", "output_dir", "max_train_steps")]
    assert launch(VAEStage, flags) == 1
    assert capsys.readouterr().err == "error: interrupted; whatever was saved before is intact.\n"


def test_a_second_run_in_the_folder_is_refused(settings, tmp_path):
    with locked(tmp_path / "run", "training"), pytest.raises(OutputError, match=r"another run .* is active in .*run"):
        run(VAEStage, TINY_VAE, settings)
    assert run(VAEStage, TINY_VAE, settings, max_seconds=0.0).step == 1


def test_latest_begins_a_new_folder_but_not_one_that_lost_its_checkpoints(settings, tmp_path):
    latest = {**settings, "resume_from_checkpoint": "latest", "max_seconds": 0.0}
    assert run(VAEStage, TINY_VAE, latest).step == 1
    shutil.rmtree(tmp_path / "run" / "checkpoint-0000001")
    with pytest.raises(TrainingError, match=r"holds a run \(log.jsonl\) without a complete checkpoint to resume"):
        run(VAEStage, TINY_VAE, latest)


def test_a_share_of_an_epoch_without_a_step_is_refused(settings):
    with pytest.raises(TrainingError, match=r"num_train_epochs is 0\.05, less than one of the 6 steps of an epoch"):
        run(VAEStage, TINY_VAE, settings, max_train_steps=None, num_train_epochs=0.05)


def test_ema_follows_its_formula(settings, tmp_path):
    """After one step with decay warmed up from 0, the average is the trained weights; later it lags behind."""
    run(VAEStage, TINY_VAE, settings, checkpointing_steps=1, checkpoints_total_limit=None)
    averages, trained = {}, {}
    for step in range(1, 7):
        folder = tmp_path / "run" / f"checkpoint-{step:07d}"
        averages[step] = weights(folder / "ema")["encoder.conv_in.weight"].double()
        trained[step] = weights(folder)["network.encoder.conv_in.weight"].double()
    assert torch.equal(averages[1], trained[1])
    expected = averages[1]
    for step in range(2, 7):
        decay = min(0.9, step / (9 + step))
        expected = decay * expected + (1 - decay) * trained[step]
    torch.testing.assert_close(averages[6], expected, rtol=0, atol=1e-6)


def test_every_epoch_sees_every_sample_once_and_processes_share_it():
    plan = BatchPlan(global_batch_size=12, accumulation=2, num_processes=3)
    order = DataOrder(24, plan, seed=1)
    assert order.steps_per_epoch == 2
    first, second = ([order.global_batch(step) for step in steps] for steps in ((0, 1), (2, 3)))
    for epoch in (first, second):
        np.testing.assert_array_equal(np.sort(np.concatenate(epoch)), np.arange(24))
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))
    parts = [iter(DataOrder(24, plan, 1, process, first_step=1)) for process in range(3)]
    drawn = [next(part) for _ in range(2) for part in parts]
    np.testing.assert_array_equal(np.ravel(drawn), order.global_batch(1))
    with pytest.raises(
        TrainingError, match="has 5 samples, but one step needs 6; lower global_batch_size, batch_size or"
    ):
        DataOrder(5, BatchPlan(6, 1, 1))


def test_scripts_end_in_one_sentence(capsys, settings):
    assert (
        launch(VAEStage, ["--data", "nowhere", "--output_dir", settings["output_dir"], "--max_train_steps", "1"]) == 1
    )
    error = capsys.readouterr().err
    assert error.startswith("error: nowhere has no dataset.json")
    assert "Traceback" not in error
