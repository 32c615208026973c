"""No message advises an option that a command which prints it lacks."""

import argparse
import ast
import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

import cpgg_hf
from cpgg_hf.cli.main import build_parser

SOURCE = Path(cpgg_hf.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z_-]*[a-z]")
# Whose messages each command prints. Those about one of many scans lose such advice, see `tests/test_errors.py`.
ONE_SCAN = ("measure", "report", "prepare dicom", "prepare nifti")
PRINTED_BY = {
    "scans": ONE_SCAN,
    "preparation/grid": ONE_SCAN,
    "preparation/layouts": ("prepare cohort",),
    "preparation/cohorts/cohort": ("prepare cohort", "prepare ukb"),
    "preparation/cohorts/participants": ("push",),
    "hub": ("push",),
    "cli/convert": ("convert",),
    "cli/generate": ("generate",),
    "cli/measure": ("measure",),
    "cli/models": (*ONE_SCAN, "demo", "generate", "sample-phenotypes", "evaluate controllability"),
    "cli/push": ("push",),
    "cli/requests": ("generate", "sample-phenotypes"),
}
OF_LAUNCHERS = {"--config", "--num_processes"}  # of the scripts themselves, and of accelerate


def commands(parser, name=""):
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield name, set(parser._option_string_actions)
    for group in groups:
        for word, command in group.choices.items():
            yield from commands(command, f"{name} {word}".strip())


COMMANDS = dict(commands(build_parser()))


def advised(path):
    """The options in a module's sentences: not in docstrings, nor in definitions of options."""
    tree = ast.parse(path.read_text())
    passed_over = {
        id(one)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument")
        for one in ast.walk(node)
    }
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in passed_over)
    return {option for text in texts if isinstance(text, str) and " " in text for option in OPTION.findall(text)}


ADVICE = {
    str(path.relative_to(SOURCE).with_suffix("")): found for path in SOURCE.rglob("*.py") if (found := advised(path))
}


def cases():
    for module, options in sorted(ADVICE.items()):
        for place, names in PRINTED_BY.items():
            if module == place or module.startswith(f"{place}/"):
                for name in names:
                    yield pytest.param(name, options, id=f"{name}-{module}")


@pytest.mark.parametrize(("command", "options"), cases())
def test_a_command_has_the_options_that_its_messages_advise(command, options):
    assert options <= COMMANDS[command]


def test_a_stage_has_the_options_that_its_messages_advise():
    common = {f"--{field.name}" for field in fields(import_module("cpgg_hf.training.arguments").TrainingArguments)}
    for module, options in ADVICE.items():
        if module.startswith("training/"):
            own = set()
            if module.startswith("training/stages/"):
                stage = import_module(f"cpgg_hf.{module.replace('/', '.')}")
                classes = [one for name, one in vars(stage).items() if name.endswith("Arguments")]
                own = {f"--{field.name}" for one in classes for field in fields(one)}
            placeholder = {"--key"} if module == "training/configuration" else set()  # "write --key value"
            assert options <= common | own | OF_LAUNCHERS | placeholder, module


def test_all_advice_is_checked():
    places = (*PRINTED_BY, "training")
    unchecked = {m for m in ADVICE if not any(m == one or m.startswith(f"{one}/") for one in places)}
    assert unchecked == {
        "cli/main",  # --debug, which every command has
        "cli/examples",  # parsed by test_parsing
        "cli/parsing",  # takes options from the parser
        "generation/generator",  # names the script whose option it is
    }
    assert all("--debug" in options for options in COMMANDS.values())
