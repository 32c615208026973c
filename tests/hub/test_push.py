"""Pushes over real HTTP to a hub on loopback: what arrives, what is refused, what happens when the hub fails."""

import json
from pathlib import Path

import pytest
from hub_faults import faults
from huggingface_hub import HfApi, hf_hub_download

from cpgg_hf.errors import PolicyError, PublishingError
from cpgg_hf.files.policy_record import record_policy
from cpgg_hf.hub.push import push_folder


def _uploads(hub, since):
    return [entry for entry in hub.httpd.log[since:] if entry["method"] == "PUT" and entry["status"] == 200]


def test_a_folder_arrives_whole_private_and_without_hidden_files(network):
    folder = network()
    (folder / ".cache").mkdir()
    (folder / ".cache" / "note.txt").write_text("stays here")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "sheet.txt").write_text("a picture")
    record_policy(folder, "phantom", [folder / "pictures"])
    url = push_folder(folder, "user/whole", commit_message="First")
    assert "/user/whole/commit/" in url
    api = HfApi()
    assert api.repo_info("user/whole").private
    expected = {".gitattributes", "config.json", "data_policy.json", "model.safetensors", "pictures/sheet.txt"}
    assert set(api.list_repo_files("user/whole")) == expected
    assert api.list_repo_commits("user/whole")[0].title == "First"


def test_branches_data_sets_and_public_repositories(network, tmp_path):
    folder = network()
    push_folder(folder, "user/branches", revision="remote-code", private=False)
    api = HfApi()
    assert not api.repo_info("user/branches").private
    assert "config.json" not in api.list_repo_files("user/branches")
    assert "config.json" in api.list_repo_files("user/branches", revision="remote-code")
    push_folder(folder, "user/branches", repo_type="dataset")
    assert "config.json" in api.list_repo_files("user/branches", repo_type="dataset")


def test_restricted_artefacts_do_not_leave_and_no_repository_is_made(network):
    folder = network(data_policy="restricted")
    with pytest.raises(PolicyError, match=r"config\.json states 'restricted'.*give the reason to publish it"):
        push_folder(folder, "user/secret")
    with pytest.raises(PolicyError, match=r"give the reason to publish it"):
        push_folder(folder, "user/secret", override_policy="  ")
    with pytest.raises(PolicyError, match=r"unknown/config\.json states no data policy"):
        push_folder(network("unknown", data_policy=None).parent, "user/secret")
    mixed = network("mixed")
    (mixed / "subjects.csv").write_text("id,LVEF\n1,60\n")
    with pytest.raises(PolicyError, match=r"subjects\.csv states no data policy.*data_policy\.json"):
        push_folder(mixed, "user/secret")
    assert not HfApi().repo_exists("user/secret")


def test_an_override_is_logged_and_stays_private(network, caplog):
    folder = network(data_policy="restricted")
    push_folder(folder, "user/approved", override_policy="the hub lies inside the approved environment")
    (entry,) = map(json.loads, (folder / ".policy_overrides.jsonl").read_text().splitlines())
    assert entry["repository"] == "user/approved"
    assert entry["reason"] == "the hub lies inside the approved environment"
    assert entry["restricted"] == ["config.json states 'restricted'", "model.safetensors states 'restricted'"]
    assert "data policy overridden" in caplog.text
    assert HfApi().repo_info("user/approved").private
    assert ".policy_overrides.jsonl" not in HfApi().list_repo_files("user/approved")
    with pytest.raises(PolicyError, match="can never be public; push it to a private repository"):
        push_folder(folder, "user/approved", override_policy="because", private=False)
    (folder / "notes.txt").write_text("eid: 1234567")
    record_policy(folder, "restricted", [folder / "notes.txt"])
    with pytest.raises(PolicyError, match="identifier"):
        push_folder(folder, "user/approved", override_policy="because")
    (folder / "notes.txt").unlink()
    assert len((folder / ".policy_overrides.jsonl").read_text().splitlines()) == 1  # refused pushes are no overrides
    HfApi().create_repo("user/open", private=False)
    with pytest.raises(PolicyError, match="user/open is public; choose a private repository"):
        push_folder(folder, "user/open", override_policy="because")
    assert HfApi().list_repo_files("user/open") == [".gitattributes"]


@pytest.mark.parametrize(
    ("status", "part_of_path", "message"),
    [
        (401, "/repos/create", r"\(401\): the Hub does not accept the token"),
        (403, "/preupload/", r"\(403\): the token has no write access"),
        (404, "/preupload/", r"\(404\): no such repository or branch"),
        (409, "/commit/", r"\(409\): the repository is being changed"),
        (412, "/commit/", r"\(412\): somebody else pushed at the same time"),
    ],
)
def test_a_refusal_is_one_sentence_and_not_repeated(hub, network, no_waiting, status, part_of_path, message):
    folder = network()
    with faults(hub, "POST", part_of_path, status) as fault, pytest.raises(PublishingError, match=message) as raised:
        push_folder(folder, f"user/refused-{status}")
    assert str(raised.value).startswith(f"{folder} was not pushed to user/refused-{status} ({status}): ")
    assert "\n" not in str(raised.value)
    assert fault.happened == 1
    assert no_waiting == []


def test_a_wrong_token_and_a_bad_name_are_reported(network):
    with pytest.raises(PublishingError, match=r"\(401\): the Hub does not accept the token"):
        push_folder(network(), "user/mine", token="hf_wrong")
    with pytest.raises(PublishingError, match="was not pushed to a/b/c: "):
        push_folder(network("other"), "a/b/c")
    with pytest.raises(PublishingError, match="there is no folder"):
        push_folder("absent", "user/mine")


@pytest.mark.parametrize(
    ("method", "part_of_path", "what"),
    [
        ("POST", "/repos/create", "cut"),
        ("POST", "/preupload/", "cut"),
        ("PUT", "/lfs/", "cut"),
        ("POST", "/commit/", 500),
    ],
)
def test_a_fault_that_passes_does_not_stop_a_push(hub, network, no_waiting, method, part_of_path, what):
    name = f"user/again-{part_of_path.strip('/').replace('/', '-')}"
    with faults(hub, method, part_of_path, what, times=1) as fault:
        push_folder(network(size=50_000), name)
    assert fault.happened == 1
    assert "model.safetensors" in HfApi().list_repo_files(name)


def test_a_hub_that_stays_broken_is_reported_and_what_was_sent_is_not_sent_again(hub, network, no_waiting):
    folder = network(size=50_000)
    before = len(hub.httpd.log)
    with (
        faults(hub, "POST", "/commit/", "cut") as fault,
        pytest.raises(PublishingError, match="could not be reached 5 times; push again to resume"),
    ):
        push_folder(folder, "user/broken")
    assert [seconds for seconds in no_waiting if seconds > 8] == [16, 60], "the client's own waits end at 8 s"
    assert fault.happened >= 5
    assert len(_uploads(hub, before)) == 1
    push_folder(folder, "user/broken")
    assert len(_uploads(hub, before)) == 1, "the weights were on the hub already"
    arrived = hf_hub_download("user/broken", "model.safetensors")
    assert Path(arrived).read_bytes() == (folder / "model.safetensors").read_bytes()


def test_pushing_the_same_again_sends_nothing(hub, network):
    folder = network(size=50_000)
    first = push_folder(folder, "user/same")
    before = len(hub.httpd.log)
    assert push_folder(folder, "user/same").rsplit("/", 1)[-1] == first.rsplit("/", 1)[-1]
    assert _uploads(hub, before) == []
    assert not any("/commit/" in entry["path"] and entry["method"] == "POST" for entry in hub.httpd.log[before:])
