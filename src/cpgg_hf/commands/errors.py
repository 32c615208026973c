"""The commands' own error."""


class CommandError(ValueError):
    """A request that a command cannot carry out; the message is one sentence meant for the user."""
