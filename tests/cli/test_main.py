"""The command line's exit codes: 2 for wrong usage, 1 for a failure, whose traceback --debug shows."""

import os
import signal

import pytest

from cpgg_hf.cli.main import exit_code, main
from cpgg_hf.files.staging import staged_folder


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sing"],
        ["generate", "--out", "x", "--set", "LVEF"],
        ["generate", "--out", "x", "--num-samples", "0"],
        ["generate", "--out", "x", "--num-samples", "9" * 30],
        ["generate", "--out", "a\0b"],
        ["generate", "--out", "x", "--seed", "-1"],
        ["generate", "--out", "x", "--seed", "99999999999999999999"],
        ["generate", "--out", "x", "--format", "avi"],
        ["generate", "--out", "x", "--format", "nifti,"],
        ["generate", "--out", "x", "--set", "LVEF=30", "--phenotypes", "table.csv"],
        ["prepare", "nifti", "x.nii.gz", "--out", "x", "--view", "sax"],
    ],
)
def test_wrong_usage_exits_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: cpgg" in capsys.readouterr().err


def test_sigterm_is_a_clean_failure(tmp_path, capsys):
    def terminated():
        with staged_folder(tmp_path / "out"):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    assert exit_code(terminated) == 1
    assert capsys.readouterr().err == "error: interrupted\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_debug_shows_where_it_failed(tmp_path, capsys):
    arguments = ["generate", "--model", "never-loaded", "--set", "LVEF=0.3", "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert main([*arguments, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_has_enough_is_no_error(capfd):
    def write():
        raise BrokenPipeError(32, "Broken pipe")

    saved = os.dup(1)
    try:
        assert exit_code(write, debug=False) == 0
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    assert "error" not in capfd.readouterr().err
