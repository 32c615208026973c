"""What a folder may be shared as: the strictest word of its parts, restricted where a part is silent."""

import json

import numpy as np
import pytest
from small_cines import write_numbered

from cpgg_hf.cine import Cine
from cpgg_hf.cli.models import SHIPPED_CHECKPOINT
from cpgg_hf.data_policy import strictest
from cpgg_hf.dataset import CineWriter, write_description
from cpgg_hf.hub.policy import policy_of, stated_policies


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        (["phantom", "public"], "public"),
        (["phantom", "restricted", "public"], "restricted"),
        (["phantom"], "phantom"),
        (["phantom", None], "restricted"),
        (["phantom", "open"], "restricted"),
        ([], "restricted"),
    ],
)
def test_the_strictest_holds_and_what_is_not_known_is_restricted(policies, expected):
    assert strictest(policies) == expected


def _network(folder, **config):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")


def test_every_network_in_a_folder_has_a_say(tmp_path):
    _network(tmp_path / "vae", data_policy="phantom")
    _network(tmp_path / "mar", data_policy="public")
    assert policy_of(tmp_path) == "public"
    _network(tmp_path / "anything_added_later")
    assert policy_of(tmp_path) == "restricted"
    assert ("anything_added_later/config.json", None) in stated_policies(tmp_path)


def test_the_rows_of_a_data_set_count_whatever_its_description_says(tmp_path):
    assert policy_of(write_numbered(tmp_path / "all", 3), "dataset") == "phantom"
    with CineWriter(tmp_path / "some", "train") as writer:
        for policy in ("phantom", "restricted"):
            pixels = np.zeros((2, 3, 4), np.uint8)
            writer.add(Cine(pixels=pixels, frame_time_ms=20.0, subject=policy, source="x", data_policy=policy))
    write_description(tmp_path / "some", data_policy="phantom")
    assert policy_of(tmp_path / "some", "dataset") == "restricted"


def test_images_beside_a_network_need_a_record_of_their_own(tmp_path):
    _network(tmp_path / "vae", data_policy="phantom")
    (tmp_path / "samples" / "dicom").mkdir(parents=True)
    (tmp_path / "samples" / "dicom" / "0001.dcm").write_bytes(b"")
    (tmp_path / "samples" / "cine.nii.gz").write_bytes(b"")
    assert ("samples", None) in stated_policies(tmp_path)
    assert policy_of(tmp_path) == "restricted"
    (tmp_path / "samples" / "generation.json").write_text(json.dumps({"data_policy": "phantom"}))
    assert policy_of(tmp_path) == "phantom"


def test_a_card_can_make_it_stricter_and_not_looser(tmp_path):
    (tmp_path / "README.md").write_text("---\ndata_policy: phantom\n---\n# Nothing here\n")
    assert policy_of(tmp_path) == "restricted"
    _network(tmp_path / "vae", data_policy="phantom")
    assert policy_of(tmp_path) == "phantom"
    (tmp_path / "README.md").write_text("---\ndata_policy: restricted\n---\n# From patients\n")
    assert policy_of(tmp_path) == "restricted"


def test_a_file_and_a_place_that_is_not_there_say_nothing(tmp_path):
    (tmp_path / "phenotypes.csv").write_text("LVEF\n30\n")
    assert policy_of(tmp_path / "phenotypes.csv", "dataset") == "restricted"
    assert policy_of(tmp_path / "absent") == "restricted"
    assert policy_of("user/absent") == "restricted"


def test_a_statement_stands_only_for_a_source_that_is_there_and_states_nothing(tmp_path):
    (tmp_path / "phenotypes.csv").write_text("LVEF\n30\n")
    assert policy_of(tmp_path / "phenotypes.csv", "dataset", if_unstated="public") == "public"
    _network(tmp_path / "silent" / "vae")
    assert policy_of(tmp_path / "silent", if_unstated="public") == "public"
    _network(tmp_path / "silent" / "mar", data_policy="restricted")
    assert policy_of(tmp_path / "silent", if_unstated="public") == "restricted"
    assert policy_of("user/absent", if_unstated="public") == "restricted"


def test_the_shipped_checkpoint_has_seen_phantoms_alone():
    assert dict(stated_policies(SHIPPED_CHECKPOINT)).keys() >= {"vae/config.json", "mar/config.json"}
    silent = [place for place, policy in stated_policies(SHIPPED_CHECKPOINT) if policy != "phantom"]
    assert silent == []
