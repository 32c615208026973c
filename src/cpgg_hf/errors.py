"""Exceptions of the package: one base class; messages state what was given, what was expected and what to do.

Every message is one sentence for the user. Wrong arguments of a function call are plain `ValueError`s.
"""

import re
import textwrap


class CPGGError(Exception):
    """Base class of every error that the package raises on purpose."""


class CPGGWarning(UserWarning):
    """A note to the user about a result; the command line prints it as one line."""


class InputError(CPGGError, ValueError):
    """Input files or data sets that cannot be read or used."""


class OutputError(CPGGError, ValueError):
    """A folder or file that cannot be written."""


class RequestError(CPGGError, ValueError):
    """A request that cannot be carried out as given."""


class PhenotypeError(CPGGError, ValueError):
    """Phenotypes with unknown names, wrong units, impossible or contradictory values."""


class CheckpointError(CPGGError, ValueError):
    """A checkpoint that is incomplete, damaged or of another kind."""


class TrainingError(CPGGError, RuntimeError):
    """A training run that cannot start or continue."""


class PublishingError(CPGGError, ValueError):
    """A push that failed, or a folder that cannot be published."""


class PolicyError(PublishingError):
    """A push that is refused: restricted data, or files that contain a participant's identifier."""


def printable(text: str) -> str:
    """Replace characters that a terminal would not print, or that would control it, by question marks."""
    return "".join(character if character.isprintable() else "?" for character in text)


def brief(message: object) -> str:
    """Another library's error message, or a value from a file, on one line and at most 200 characters long."""
    text = textwrap.shorten(str(message).rstrip(". \n"), 200, placeholder=" ...") or type(message).__name__
    return printable(text)


def advising_only(message: str, options: set[str]) -> str:
    """A message about one of many scans, whose last clause advises no option but those that the command has."""
    said, _, advice = message.rpartition("; ")
    lacking = set(re.findall(r"--[a-z][a-z-]*", advice)) - options
    return f"{said}; check the scan, or leave it out." if said and lacking else message
