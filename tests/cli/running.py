"""Commands as users type them, and how they fail: in one sentence."""

import re

from cpgg_hf.cli.main import main

FEW_STEPS = ["--num-decoding-steps", "2", "--num-inference-steps", "2"]


def run(*arguments):
    return main([str(argument) for argument in arguments])


def assert_one_sentence(capsys, message):
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert re.search(message, errors[0]), errors[0]
