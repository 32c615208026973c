"""Help that fits on a screen with an example that works, and wrong usage in one sentence with the nearest word."""

import argparse
import shlex

import pytest

from cpgg_hf.cli.examples import EXAMPLES
from cpgg_hf.cli.main import build_parser, main


def parsers(parser):
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from parsers(one)


ALL = {parser.prog: parser for parser in parsers(build_parser())}


def test_every_command_has_an_example_that_it_takes():
    assert EXAMPLES.keys() == ALL.keys()
    for prog, example in EXAMPLES.items():
        assert example.startswith(prog)
        build_parser().parse_args(shlex.split(example)[1:])
        assert f"example:\n  {example}\n" in ALL[prog].format_help()


def test_help_fits_on_a_screen_and_states_defaults(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for prog, parser in ALL.items():
        text = parser.format_help()
        assert len(text.splitlines()) <= 45, prog
        for action in parser._actions:
            if action.option_strings and action.default not in (None, False, [], argparse.SUPPRESS):
                assert str(action.default).removesuffix(".0") in text.partition(action.option_strings[0])[2], (
                    prog,
                    action.dest,
                )
    text = " ".join(ALL["cpgg generate"].format_help().split())
    assert "--seed SEED the same seed gives the same result (default: 0)" in text
    assert "gif and webp leave out frames above 60 bpm" in text


GENERATE = ["generate", "--out", "x"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["generat"], "unknown command 'generat'; did you mean generate?"),
        (["prepare", "niftii"], "unknown source 'niftii'; did you mean nifti?"),
        ([*GENERATE, "--format", "nifti,gfi"], "argument --format: unknown format 'gfi'; did you mean gif?"),
        ([*GENERATE, "--modle", "y"], "unknown argument '--modle'; did you mean --model?"),
        ([*GENERATE, "--device", "gpu"], "argument --device: unknown device 'gpu'; expected cpu, cuda, "),
        ([*GENERATE, "--dtype", "float"], "argument --dtype: unknown value 'float'; did you mean float"),
        (["generate"], "the following arguments are required: --out"),
        (["measure", "a.nii.gz", "b.nii.gz"], "unknown argument 'b.nii.gz'"),
    ],
)
def test_wrong_usage_is_a_sentence_before_the_usage(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    first, usage, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith(f"error: {sentence}")
    assert usage.startswith("usage: cpgg")
    assert len(usage) < 80
