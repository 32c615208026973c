"""The one error for training that cannot start or go on: what was given, what was expected, what to do."""


class TrainingError(RuntimeError):
    """A run that cannot start or go on; the message is one sentence meant for the user."""
