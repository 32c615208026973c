"""Why something was not published."""


class PublishingError(ValueError):
    """A push that failed, or input that cannot be published; the message says what to do."""


class PolicyError(PublishingError):
    """A push that the data policy forbids."""


class IdentifierError(PublishingError):
    """A push of files that name a participant."""
