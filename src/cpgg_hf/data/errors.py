"""Errors of files in and out: what was found, where, and what to do about it, in one sentence for the user."""

import textwrap


class PreparationError(ValueError):
    """Input files that cannot be read or prepared."""


class OutputError(ValueError):
    """A place where results cannot be written."""


def printable(text: str) -> str:
    """A text that a file gave, on one line and without what would steer a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def brief(said: object) -> str:
    """What another library's error or a file's value says, in one line that fits into a sentence of ours."""
    text = textwrap.shorten(str(said).rstrip(". \n"), 200, placeholder=" ...") or type(said).__name__
    return printable(text)
