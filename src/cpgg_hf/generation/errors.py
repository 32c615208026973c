"""The room's own error."""


class GenerationError(ValueError):
    """A data set that cannot be generated as asked; the message is one sentence meant for the user."""
