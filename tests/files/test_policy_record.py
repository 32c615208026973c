"""A record lists exactly what was written, by content, and lives as long as its files."""

import pytest

from cpgg_hf.files.policy_record import read_record, record_policy, recorded, recorded_policies


def write(path, text="a"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_only_what_the_block_writes_is_recorded(tmp_path):
    foreign = write(tmp_path / "found_here.csv")
    with recorded(tmp_path, "phantom"):
        own, nested, hidden = (write(tmp_path / name) for name in ("own.json", "part/weights.dat", ".cache/x"))
        record_policy(tmp_path / "part", "public", [nested])
    assert recorded_policies(tmp_path, [foreign, own, nested, hidden]) == {
        foreign: None,
        own: "phantom",
        nested: "public",
        hidden: None,
    }


def test_a_block_that_fails_records_nothing(tmp_path):
    def fail():
        with recorded(tmp_path, "phantom"):
            write(tmp_path / "own.json")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert recorded_policies(tmp_path, [tmp_path / "own.json"]) == {tmp_path / "own.json": None}


def test_changed_files_have_no_policy_and_absent_ones_no_entry(tmp_path):
    one, other = write(tmp_path / "one"), write(tmp_path / "other")
    record_policy(tmp_path, "phantom", [one, other])
    one.write_text("b")
    assert recorded_policies(tmp_path, [one, other]) == {one: None, other: "phantom"}
    one.unlink()
    record_policy(tmp_path, "public", [other])
    assert read_record(tmp_path / "data_policy.json")["files"].keys() == {"other"}
    assert recorded_policies(tmp_path, [other]) == {other: "public"}


def test_an_unknown_word_is_restricted(tmp_path):
    for policy in (None, "open"):
        record_policy(tmp_path, policy, [write(tmp_path / "file")])
        assert recorded_policies(tmp_path, [tmp_path / "file"]) == {tmp_path / "file": "restricted"}
