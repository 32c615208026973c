"""Loading a pipeline from a hub that refuses, lacks it or is dead: one sentence that names the cause."""

import pytest
from hub_faults import faults
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from tiny_checkpoint import save_tiny_checkpoint

from cpgg_hf import CPGGPipeline
from cpgg_hf.errors import CheckpointError
from cpgg_hf.files.policy_record import record_policy
from cpgg_hf.hub.push import push_folder
from cpgg_hf.release.remote_checkpoint import write_remote_checkpoint


@pytest.fixture(scope="module")
def repository(checkpoint):
    push_folder(checkpoint, "user/read")
    return "user/read"


def refusal(name, tmp_path, **options):
    with pytest.raises(CheckpointError) as refused:
        CPGGPipeline.from_pretrained(name, cache_dir=tmp_path / "cache", **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "401: no such repository, or the Hub does not accept the token; check the name, and log in"),
        (403, "403: access is refused; ask for it"),
        (404, "404: no such repository, or the token may not read it"),
        (500, "500: the Hub has a problem; try again later"),
    ],
)
def test_a_status_is_named_with_what_to_do(hub, repository, tmp_path, no_waiting, status, message):
    with faults(hub, "GET", "/user/read", status):
        assert message in refusal(repository, tmp_path)


def test_what_is_not_there_is_named(repository, tmp_path):
    HfApi().create_repo("user/empty", exist_ok=True)
    assert "404: no such repository" in refusal("user/absent", tmp_path)
    assert "has no such revision; check the branch" in refusal(repository, tmp_path, revision="absent")
    assert "the repository lacks the file model_index.json" in refusal("user/empty", tmp_path)
    assert "401: " in refusal(repository, tmp_path, token="hf_wrong")


def test_a_dead_hub_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", "http://127.0.0.1:9")
    assert "the Hub could not be reached; check the network" in refusal("user/read", tmp_path)


@pytest.mark.parametrize("name", ["user//two words", "a..b/c", "a/b/c", "two words"])
def test_a_name_that_no_repository_can_have_is_refused_before_the_network_is_tried(hub, tmp_path, name):
    before = len(hub.httpd.log)
    assert "neither a folder nor the name of a Hub repository" in refusal(name, tmp_path)
    assert len(hub.httpd.log) == before


def test_code_of_a_repository_is_run_only_when_trusted(checkpoint, repository, tmp_path):
    write_remote_checkpoint(checkpoint, tmp_path / "remote")
    push_folder(tmp_path / "remote", repository, revision="remote-code")
    message = refusal(repository, tmp_path, revision="remote-code")
    assert "would run code from the repository; read that code, then pass trust_remote_code=True" in message


def test_a_tensor_that_a_repository_lacks_is_named_as_in_a_folder(tmp_path):
    folder = save_tiny_checkpoint(tmp_path / "lacking")
    path = folder / "mar" / "model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if k != "mask_token"}, path, metadata={"format": "pt"})
    record_policy(path.parent, "phantom", path.parent.iterdir())
    push_folder(folder, "user/lacking")
    assert "lacks 1 tensors that its config.json expects, such as 'mask_token'" in refusal("user/lacking", tmp_path)
