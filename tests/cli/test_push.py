"""`cpgg push`, `cpgg export-remote-code`, and the scripts' `--push_to_hub`."""

import argparse
import json
from pathlib import Path

import pytest
from hub_faults import faults
from huggingface_hub import HfApi, ModelCard
from small_cines import write_numbered

from cpgg_hf.cli.main import main
from cpgg_hf.files.policy_record import record_policy


def test_a_checkpoint_goes_with_whatever_folders_it_has_and_gets_a_card(checkpoint, tmp_path, capsys):
    assert main(["push", str(checkpoint), "user/cli", "--remote-code", "--message", "By command"]) == 0
    assert capsys.readouterr().out.count("pushed http") == 2
    files = HfApi().list_repo_files("user/cli")
    assert {"model_index.json", "cine_segmenter/config.json", "README.md"} <= set(files)
    assert "pipeline_cpgg.py" not in files
    assert "pipeline_cpgg.py" in HfApi().list_repo_files("user/cli", revision="remote-code")
    assert ModelCard.load("user/cli").data.to_dict()["data_policy"] == "phantom"
    assert HfApi().list_repo_commits("user/cli")[0].title == "By command"


def test_a_data_set_is_recognised_by_its_description(tmp_path):
    folder = write_numbered(tmp_path / "set", 3)
    assert main(["push", str(folder), "user/cines"]) == 0
    assert HfApi().repo_info("user/cines", repo_type="dataset").private


def test_refusals_are_one_line(network, tmp_path, capsys):
    folder = network(data_policy="restricted")
    (folder / "README.md").write_text("---\ndata_policy: restricted\n---\n# card\n")
    assert main(["push", str(folder), "user/no"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {folder} is restricted and is not pushed to user/no (")
    assert main(["push", str(folder), "user/no", "--cohort", "x"]) == 1
    assert "--cohort needs --key-file to recognise participants" in capsys.readouterr().err
    assert main(["push", str(tmp_path / "absent"), "user/no"]) == 1
    assert main(["push", str(folder), "user/no", "--remote-code", "--revision", "x"]) == 1
    assert main(["push", str(folder), "user/yes", "--override-policy", "approved"]) == 0


def test_exported_code_can_be_checked(tmp_path, capsys):
    assert main(["export-remote-code", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "vae" / "autoencoder_kl_cpgg.py").is_file()
    assert main(["export-remote-code", "--out", str(tmp_path), "--check"]) == 0
    assert capsys.readouterr().out.endswith(f"{tmp_path} is up to date\n")
    (tmp_path / "vae" / "autoencoder_kl_cpgg.py").write_text("")
    assert main(["export-remote-code", "--out", str(tmp_path), "--check"]) == 1
    assert "vae/autoencoder_kl_cpgg.py in" in capsys.readouterr().err


@pytest.fixture
def push_script(monkeypatch):
    """A script that only pushes: called with a folder and flags."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "training_scripts")
    from push_options import add_push_options, push_result

    parser = argparse.ArgumentParser()
    add_push_options(parser)
    return lambda folder, *flags: push_result(parser.parse_args(flags), folder)


def test_scripts_push_from_the_first_process_and_keep_what_they_made(hub, network, push_script, capsys, monkeypatch):
    folder = network()
    (folder / "README.md").write_text("# card\n")
    record_policy(folder, "phantom", [folder / "README.md"])
    assert push_script(folder) == 0
    assert not HfApi().repo_exists("user/script")
    monkeypatch.setenv("RANK", "1")
    assert push_script(folder, "--push_to_hub", "--hub_model_id", "user/script") == 0
    assert not HfApi().repo_exists("user/script")
    monkeypatch.setenv("RANK", "0")
    with faults(hub, "POST", "/repos/create", 403):
        assert push_script(folder, "--push_to_hub", "--hub_model_id", "user/script") == 1
    assert f"error: {folder} is complete, but was not pushed: " in capsys.readouterr().err
    assert push_script(folder, "--push_to_hub", "--hub_model_id", "user/script") == 0
    assert HfApi().repo_info("user/script").private
    assert json.loads((folder / "config.json").read_text())
