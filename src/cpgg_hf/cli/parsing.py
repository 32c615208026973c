"""The parser of every command: errors in one sentence, with the nearest valid word, and help that fits on a screen."""

import argparse
import difflib
from collections.abc import Iterable
from typing import Any, NoReturn

from cpgg_hf.cli.examples import EXAMPLES
from cpgg_hf.errors import brief


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """The known word nearest to the given one, or all of them."""
    known = list(known)
    nearest = difflib.get_close_matches(given.lower(), known, n=1)
    return f"did you mean {nearest[0]}?" if nearest else f"expected one of {', '.join(known)}"


class Parser(argparse.ArgumentParser):
    """Usage with the required arguments only, the command's example below the options, and the error first."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, **options)

    def format_usage(self) -> str:
        """`usage: cpgg generate --out OUT [options]`."""
        self.usage = self._short_usage()
        return super().format_usage()

    def format_help(self) -> str:
        """The help, with an example."""
        self.usage, self.epilog = self._short_usage(), f"example:\n  {EXAMPLES[self.prog]}"
        return super().format_help()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As of argparse, but unknown arguments are an error of the command that they were given to."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].partition("=")[0]
            flags = [one for action in self._actions for one in action.option_strings if one.startswith("--")]
            nearest = f"; {did_you_mean(flag, flags)}" if flag.startswith("-") else ""
            self.error(f"unknown argument {brief(flag)!r}{nearest}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        """Print the sentence, then the usage; exit code 2."""
        self.exit(2, f"error: {message}\n{self.format_usage()}`{self.prog} --help` lists the options\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        text = f"{brief(value)!r}; {did_you_mean(str(value), action.choices)}"
        if isinstance(action, argparse._SubParsersAction):
            raise argparse.ArgumentError(None, f"unknown {str(action.metavar).lower()} {text}")
        raise argparse.ArgumentError(action, f"unknown value {text}")

    def _short_usage(self) -> str:
        positional = [self._value(action, action.dest) for action in self._actions if not action.option_strings]
        required = [
            f"{action.option_strings[0]} {self._value(action, action.dest.upper())}"
            for action in self._actions
            if action.option_strings and action.required
        ]
        return " ".join(["%(prog)s", *positional, *required, "[options]"])

    @staticmethod
    def _value(action: argparse.Action, name: str) -> str:
        choices = None if action.choices is None else f"{{{','.join(action.choices)}}}"
        return str(action.metavar or choices or name)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """States the default of every option that has one; names values by one word: `--num-samples SAMPLES`."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return action.dest.split("_")[-1].upper()

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        states_none = action.default is None or action.default is False or action.default in ([], argparse.SUPPRESS)
        return text if states_none or "(default" in text else f"{text} (default: %(default)s)"
