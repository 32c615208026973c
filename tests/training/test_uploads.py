"""`--push_to_hub` of a training run, to a hub on loopback that may fail."""

import json
import threading
from pathlib import Path

import pytest
from hub_faults import faults
from huggingface_hub import HfApi, ModelCard, hf_hub_download

from cpgg_hf.errors import TrainingError
from cpgg_hf.hub.background import BackgroundPushes
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.training.stages.vae import VAEStage

from .conftest import TINY_VAE, run, weights, write_data


@pytest.fixture
def pushing(settings):
    return {**settings, "push_to_hub": True, "hub_model_id": "user/trained"}


def test_the_trained_average_arrives_with_its_card_and_record(pushing, tmp_path, capsys):
    run(VAEStage, TINY_VAE, pushing)
    assert HfApi().repo_info("user/trained").private
    loaded = AutoencoderKLCPGG.from_pretrained("user/trained", cache_dir=tmp_path / "cache")
    saved = weights(tmp_path / "run" / "ema")
    assert all((tensor == saved[name]).all() for name, tensor in loaded.state_dict().items())
    card = ModelCard.load("user/trained")
    assert card.data.to_dict()["data_policy"] == "phantom"
    assert "| vae | 6 (batch 4) |" in card.text
    record = json.loads(Path(hf_hub_download("user/trained", "training_record.json")).read_text())
    assert record["runs"][0]["reached"].startswith("psnr ")
    assert str(tmp_path) not in json.dumps(record)
    assert not (tmp_path / "run" / ".hub").exists()
    assert "error" not in capsys.readouterr().err
    assert not (tmp_path / "run" / "ema" / "README.md").exists(), "the run's own folder stays as it was"


def test_a_hub_that_fails_stops_no_training_and_is_reported_at_the_end(hub, pushing, tmp_path, capsys):
    with faults(hub, "POST", "/preupload/", 403):
        run(VAEStage, TINY_VAE, {**pushing, "hub_model_id": "user/forbidden"})
    assert weights(tmp_path / "run" / "ema")
    error = capsys.readouterr().err
    assert "error: training is complete and saved, but " in error
    assert "user/forbidden (403): the token has no write access" in error


def test_restricted_networks_are_refused_before_the_first_step(pushing, tmp_path):
    data = str(write_data(tmp_path / "patients", policy="restricted"))
    with pytest.raises(TrainingError, match=r"is not pushed to user/trained.*hub_override_policy"):
        run(VAEStage, TINY_VAE, {**pushing, "data": data})
    assert not list((tmp_path / "run").glob("checkpoint-*"))
    reason = "the hub is inside the approved environment"
    run(VAEStage, TINY_VAE, {**pushing, "data": data, "hub_override_policy": reason, "hub_model_id": "user/inside"})
    card = ModelCard.load("user/inside")
    assert card.data.to_dict()["data_policy"] == "restricted"
    assert HfApi().repo_info("user/inside").private


def test_a_push_in_flight_keeps_what_it_was_given_and_a_slow_one_is_not_waited_for(tmp_path, monkeypatch):
    release, seen = threading.Event(), []

    def push_folder(folder, repo_id, **options):
        release.wait(10)
        seen.append((folder / "weights").read_text())
        return "url"

    monkeypatch.setattr("cpgg_hf.hub.background.push_folder", push_folder)
    pushes = BackgroundPushes("user/x", tmp_path / "staging")
    for step in ("1", "2", "3"):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights").write_text(step)
    assert pushes.start(tmp_path / "checkpoint-1")
    (tmp_path / "checkpoint-1" / "weights").unlink()  # as old checkpoints are removed
    assert not pushes.start(tmp_path / "checkpoint-2"), "the first still runs"
    release.set()
    assert pushes.start(tmp_path / "checkpoint-3", wait=True)
    assert pushes.finish() == []
    assert seen == ["1", "3"]


def test_only_what_no_later_push_mended_is_an_error(tmp_path, monkeypatch):
    outcomes = iter([RuntimeError("first"), None, RuntimeError("last")])

    def push_folder(folder, repo_id, **options):
        if (error := next(outcomes)) is not None:
            raise error
        return "url"

    monkeypatch.setattr("cpgg_hf.hub.background.push_folder", push_folder)
    (tmp_path / "model").mkdir()
    pushes = BackgroundPushes("user/x", tmp_path / "staging")
    pushes.start(tmp_path / "model", wait=True)
    pushes.start(tmp_path / "model", wait=True)
    assert pushes.finish() == []
    pushes.start(tmp_path / "model", wait=True)
    assert [str(error) for error in pushes.finish()] == ["last"]
