"""Errors of files in and out: what was found, where, and what to do about it, in one sentence for the user."""

import textwrap


class PreparationError(ValueError):
    """Input files that cannot be read or prepared."""


class OutputError(ValueError):
    """A place where results cannot be written."""


def brief(error: BaseException) -> str:
    """What another library's error says, in one line that fits into a sentence of ours."""
    return textwrap.shorten(str(error).rstrip(". \n"), 200, placeholder=" ...") or type(error).__name__
