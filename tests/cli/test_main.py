"""The command line's exit codes: 2 for wrong usage, 1 for a failure, whose traceback --debug shows."""

import pytest

from cpgg_hf.cli.main import main


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


def test_debug_shows_where_it_failed(tmp_path, capsys):
    arguments = ["generate", "--model", "never-loaded", "--set", "LVEF=0.3", "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert main([*arguments, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
