"""Policy of a folder: the strictest stated by its parts; restricted if a part states none."""

import json

import numpy as np
import pytest
from small_cines import write_numbered

from cpgg_hf.cine import Cine
from cpgg_hf.cli.models import SHIPPED_CHECKPOINT
from cpgg_hf.data_policy import strictest
from cpgg_hf.dataset import CineWriter, write_description
from cpgg_hf.files.policy_record import record_policy
from cpgg_hf.hub.policy import inherited_policy, policy_of, stated_policies


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
    record_policy(folder, config.get("data_policy"), folder.iterdir())


def test_every_network_in_a_folder_has_a_say(tmp_path):
    _network(tmp_path / "vae", data_policy="phantom")
    _network(tmp_path / "mar", data_policy="public")
    assert policy_of(tmp_path) == "public"
    _network(tmp_path / "anything_added_later")
    assert policy_of(tmp_path) == "restricted"
    assert ("anything_added_later/config.json", None) in stated_policies(tmp_path)


def test_the_rows_of_a_data_set_count_whatever_its_description_says(tmp_path):
    assert policy_of(write_numbered(tmp_path / "all", 3)) == "phantom"
    with CineWriter(tmp_path / "some", "train") as writer:
        for policy in ("phantom", "restricted"):
            pixels = np.zeros((2, 3, 4), np.uint8)
            writer.add(Cine(pixels=pixels, frame_time_ms=20.0, subject=policy, source="x", data_policy=policy))
    write_description(tmp_path / "some", data_policy="phantom")
    assert policy_of(tmp_path / "some") == "restricted"
    assert inherited_policy(tmp_path / "some", "dataset") == "restricted"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "table.csv",
            "report.json",
            "heart.gif",
            "sheet.png",
            "film.mp4",
            "scan.tif",
            "subjects.xlsx",
            "cines.arrow",
        ),
        *("scan.mha", "scan.nrrd", "cine.mat", "scans.tar", "scans.pkl", "net.onnx", "weights.dat", "IM000001"),
        *("samples/dicom/0001.dcm", "cine.nii.gz", "LICENSE", "deeper/still/notes.txt", "other.safetensors"),
    ],
)
def test_any_file_beside_a_network_needs_a_record(tmp_path, name):
    _network(tmp_path / "vae", data_policy="phantom")
    (tmp_path / "vae" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "vae" / name).write_bytes(b"anything")
    assert (f"vae/{name}", None) in stated_policies(tmp_path)
    assert policy_of(tmp_path) == "restricted"
    record_policy(tmp_path, "public", [tmp_path / "vae" / name])
    assert policy_of(tmp_path) == "public"


def test_weights_that_were_exchanged_are_restricted_and_so_is_what_is_trained_from_them(tmp_path):
    _network(tmp_path / "phantom", data_policy="phantom")
    assert (policy_of(tmp_path / "phantom"), inherited_policy(tmp_path / "phantom")) == ("phantom", "phantom")
    (tmp_path / "phantom" / "model.safetensors").write_bytes(b"the weights of a network of patients")
    assert (policy_of(tmp_path / "phantom"), inherited_policy(tmp_path / "phantom")) == ("restricted", "restricted")


def test_a_record_that_holds_more_than_policies_is_no_record(tmp_path):
    _network(tmp_path / "vae", data_policy="phantom")
    path = tmp_path / "vae" / "data_policy.json"
    record = json.loads(path.read_text())
    for broken in ({**record, "notes": "of a patient"}, {**record, "files": []}, [], {"files": {"config.json": "a"}}):
        path.write_text(json.dumps(broken))
        assert policy_of(tmp_path) == "restricted"
    path.write_text("[" * 100_000)
    assert policy_of(tmp_path) == "restricted"


def _card(folder, policy):
    (folder / "README.md").write_text(f"---\ndata_policy: {policy}\n---\n# A card\n")
    record_policy(folder, "phantom", [folder / "README.md"])


def test_a_card_can_make_it_stricter_and_not_looser(tmp_path):
    _card(tmp_path, "phantom")
    assert inherited_policy(tmp_path) == "restricted"
    (tmp_path / "README.md").write_text("# Nothing is stated here\n")
    assert policy_of(tmp_path) == "restricted"
    _network(tmp_path / "vae", data_policy="phantom")
    _card(tmp_path, "phantom")
    assert policy_of(tmp_path) == "phantom"
    _card(tmp_path, "restricted")
    assert policy_of(tmp_path) == "restricted"


def test_a_file_and_a_place_that_is_not_there_say_nothing(tmp_path):
    (tmp_path / "phenotypes.csv").write_text("LVEF\n30\n")
    for source in (tmp_path / "phenotypes.csv", tmp_path / "absent", "user/absent"):
        assert inherited_policy(source) == "restricted"


def test_a_statement_stands_only_for_a_source_that_is_there_and_states_nothing(tmp_path):
    (tmp_path / "phenotypes.csv").write_text("LVEF\n30\n")
    assert inherited_policy(tmp_path / "phenotypes.csv", "dataset", if_unstated="public") == "public"
    _network(tmp_path / "silent" / "vae")
    assert inherited_policy(tmp_path / "silent", if_unstated="public") == "public"
    _network(tmp_path / "silent" / "mar", data_policy="restricted")
    assert inherited_policy(tmp_path / "silent", if_unstated="public") == "restricted"
    assert inherited_policy("user/absent", if_unstated="public") == "restricted"


def test_the_shipped_checkpoint_was_trained_only_on_phantoms():
    assert dict(stated_policies(SHIPPED_CHECKPOINT)).keys() >= {"vae/config.json", "mar/config.json"}
    silent = [place for place, policy in stated_policies(SHIPPED_CHECKPOINT) if policy != "phantom"]
    assert silent == []
