"""Results appear complete or not at all."""

import os
import subprocess
import sys

import pytest

from cpgg_hf.errors import OutputError
from cpgg_hf.files.staging import staged_file, staged_folder


def fail(stage):
    with stage as path:
        (path / "half.txt" if path.is_dir() else path).write_text("half")
        raise KeyboardInterrupt


def test_a_folder_appears_at_the_end_with_its_parents(tmp_path):
    with staged_folder(tmp_path / "a" / "b") as partial:
        (partial / "result.txt").write_text("whole")
        assert not (tmp_path / "a" / "b").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert (tmp_path / "a" / "b" / "result.txt").read_text() == "whole"


@pytest.mark.parametrize("out", ["a/b", "."])
def test_a_failure_leaves_nothing(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fail(staged_folder(out))
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_cleared_and_what_living_ones_write_is_not(tmp_path):
    out, die = tmp_path / "out", "os.kill(os.getpid(), 9)"
    out.mkdir()
    begin = "import os, sys\nfrom cpgg_hf.files.staging import staged_file, staged_folder\n"
    for stage in (f"staged_folder({str(out)!r})", f"staged_file({str(tmp_path / 'table.csv')!r})"):
        code = f"{begin}with {stage} as path:\n    {die}"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert len(list(tmp_path.rglob(".*.partial.*"))) == 2
    with staged_folder(out) as partial:  # the same command works again
        (partial / "result.txt").write_text("whole")
        with staged_file(tmp_path / "table.csv") as first, staged_file(tmp_path / "table.csv") as second:
            first.write_text("first")
            second.write_text("second")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "out", "out/result.txt", "table.csv",
    ]  # fmt: skip
    assert (tmp_path / "table.csv").read_text() == "first"


def test_the_present_folder_is_filled_in_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with staged_folder(".") as partial:
        (partial / "result.txt").write_text("whole")
    assert os.listdir() == ["result.txt"]  # noqa: PTH208 - of the folder that the process is in


def test_overwriting_replaces_what_is_written_and_keeps_the_rest(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "result.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fail(staged_folder(tmp_path, overwrite=True))
    with staged_folder(tmp_path, overwrite=True) as partial:
        (partial / "result.txt").write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"mine.txt": "mine", "result.txt": "new"}


def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    for out, message in (
        (tmp_path, "exists and is not empty"),
        (tmp_path / "file", "is a file; give a folder"),
        (tmp_path / "file" / "out", r"file cannot be written \(.*\); give another one"),
        (tmp_path / "file" / "new" / "out", r"new cannot be written \(Not a directory\); give another one"),
    ):
        with pytest.raises(OutputError, match=message), staged_folder(out):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_appears_at_the_end_or_not_at_all(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fail(staged_file(path))
    assert path.read_text() == "old"
    with staged_file(path) as partial:
        assert partial.suffix == ".csv"
        partial.write_text("new")
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("table.csv", "new")]
    with pytest.raises(OutputError, match="is a folder; give a file"), staged_file(tmp_path):
        pass
    with staged_file(tmp_path / "new" / "table.csv") as partial:
        partial.write_text("new")
    assert (tmp_path / "new" / "table.csv").read_text() == "new"
    with pytest.raises(KeyboardInterrupt):
        fail(staged_file(tmp_path / "other" / "table.csv"))
    assert not (tmp_path / "other").exists()
