"""The one error for input that cannot become a cine: what was found, where, and what to do about it."""


class PreparationError(ValueError):
    """Input files that cannot be read or prepared; the message is one sentence meant for the user."""
