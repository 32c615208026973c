"""A stage's arguments from a YAML file and from flags that override it."""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from cpgg_hf.errors import TrainingError, brief
from cpgg_hf.training.arguments import TrainingArguments, check_keys, checked, default_of, is_required, without_none

MODEL_FLAG = "--model."
# PyYAML raises many kinds for values such as `0x_`, `2020-13-45` or very deep nesting.
_YAML_ERRORS = (yaml.YAMLError, ValueError, KeyError, AttributeError, OverflowError, RecursionError)

Arguments = TypeVar("Arguments", bound=TrainingArguments)


def parse_arguments(arguments_class: type[Arguments], argv: Sequence[str] | None = None) -> Arguments:
    """A stage's arguments from `--config FILE.yaml` and flags; flags win.

    Raises:
        TrainingError: an unknown key (the nearest valid one is named), a missing or invalid value, an unreadable file.
        SystemExit: a flag without its value, or `--help` (argparse).
    """
    flags, model_flags = _split_model_flags(list(sys.argv[1:] if argv is None else argv))
    entries = [entry for entry in fields(arguments_class) if entry.init]
    kinds = get_type_hints(arguments_class)
    parser = argparse.ArgumentParser(allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("--config", metavar="FILE.yaml", help="YAML file of `key: value` lines; flags override it")
    for entry in entries:
        names = dict.fromkeys((f"--{entry.name}", f"--{entry.name.replace('_', '-')}"))
        help_text = str(entry.metadata["help"]).replace("%", "%%")
        parser.add_argument(*names, help=f"{help_text} {_spelled_default(entry)}", **_of_parser(kinds[entry.name]))
    given, unknown = parser.parse_known_args(flags)
    settings = vars(given)
    config = settings.pop("config", None)
    valid = [entry.name for entry in entries]
    if unknown:
        if unknown[0].startswith("--"):
            check_keys([unknown[0][2:].partition("=")[0].replace("-", "_")], valid, "the command line")
        raise TrainingError(f"{unknown[0]!r} on the command line belongs to no flag; write --key value.")
    settings = {name: _from_text(name, kinds[name], text) for name, text in settings.items()}

    written = {} if config is None else read_settings(Path(config))
    check_keys(written, [*valid, "model"], str(config))
    model = written.pop("model", None)
    model = checked("model", dict[str, Any], {} if model is None else model)
    settings = {**written, **settings}
    missing = [entry.name for entry in entries if is_required(entry) and settings.get(entry.name) is None]
    if missing:
        raise TrainingError(f"{' and '.join(missing)} must be given, by a flag or in the configuration file.")
    arguments = arguments_class(**settings)
    arguments.model = {**model, **model_flags}
    return arguments


def read_settings(path: Path) -> dict[str, Any]:
    """A YAML file of settings as a dict; `1e-4` is a number (YAML 1.1 reads it as text).

    Raises:
        TrainingError: it cannot be read, or is no mapping with distinct keys.
    """
    try:
        settings = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except UnicodeDecodeError:
        raise TrainingError(f"cannot read the configuration {path}: not UTF-8 text; save it as UTF-8.") from None
    except (OSError, *_YAML_ERRORS) as error:
        raise TrainingError(f"cannot read the configuration {path}: {brief(error)}.") from None
    if not isinstance(settings, dict | None):
        raise TrainingError(f"the configuration {path} must have `key: value` lines, not a {type(settings).__name__}.")
    return settings or {}


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        nodes = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in nodes]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                line = nodes[index].start_mark.line + 1
                raise yaml.YAMLError(f"the key {key!r} is given twice, again in line {line}")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def _spelled_default(entry: Field) -> str:
    if is_required(entry):
        return "(required)"
    value = default_of(entry)
    return "" if value in (None, {}) else f"(default: {value})"


def _of_parser(kind: Any) -> dict[str, Any]:
    """How argparse reads the flag of an argument of this type."""
    kind = without_none(kind)
    if get_origin(kind) is Literal:
        return {"metavar": "{" + ",".join(get_args(kind)) + "}"}
    if kind is bool:
        return {"nargs": "?", "const": "true", "metavar": "true|false"}
    if get_origin(kind) is dict:
        return {"nargs": "+", "metavar": "NAME=VALUE"}
    if get_origin(kind) is list:
        return {"nargs": "+", "metavar": "VALUE"}
    return {"metavar": {str: "TEXT", int: "N", float: "X"}[kind]}


def _from_text(name: str, kind: Any, text: Any) -> Any:
    """The value of a flag."""
    kind = without_none(kind)
    if kind is str or get_origin(kind) is Literal:
        return text
    if get_origin(kind) is dict:
        pairs = [pair.partition("=") for pair in text]
        if not all(separator for _, separator, _ in pairs):
            raise TrainingError(f"{name} takes NAME=VALUE, given {' '.join(text)}.")
        return {key: value for key, _, value in pairs}
    return [_yaml_value(part) for part in text] if isinstance(text, list) else _yaml_value(text)


def _yaml_value(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except _YAML_ERRORS:
        return text


def _split_model_flags(flags: list[str]) -> tuple[list[str], dict[str, Any]]:
    others, model, remaining = [], {}, iter(flags)
    for flag in remaining:
        if not flag.startswith(MODEL_FLAG):
            others.append(flag)
            continue
        key, equals, value = flag.removeprefix(MODEL_FLAG).partition("=")
        model[key] = _yaml_value(value if equals else next(remaining, ""))
    return others, model
