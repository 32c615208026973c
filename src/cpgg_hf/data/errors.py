"""The one error for input that cannot become a cine: what was found, where, and what to do about it."""

import textwrap


class PreparationError(ValueError):
    """Input files that cannot be read or prepared; the message is one sentence meant for the user."""


def brief(error: BaseException) -> str:
    """What another library's error says, in one line that fits into a sentence of ours."""
    return textwrap.shorten(str(error), 200, placeholder=" ...").rstrip(".") or type(error).__name__
