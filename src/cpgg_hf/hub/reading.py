"""Why something could not be read from the Hub, in words."""

from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)
from huggingface_hub.utils import HFValidationError, validate_repo_id

_PROBLEMS = {
    401: "401: no such repository, or the Hub does not accept the token; check the name, and log in with "
    "`hf auth login` or set HF_TOKEN",
    403: "403: access is refused; ask for it on the repository's page, or use a token that has it",
    404: "404: no such repository, or the token may not read it; check the name and the token",
}


def is_repository_name(name: str) -> bool:
    """Whether this can be the name of a Hub repository: "owner/name", or "name"."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def hub_problem(error: BaseException) -> str | None:
    """What went wrong on the Hub and what to do; None if the error has another cause.

    Libraries raise their own errors from those of the Hub's client, so all causes are considered.
    """
    if "trust_remote_code" in str(error):
        return "it would run code from the repository; read that code, then pass trust_remote_code=True"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RevisionNotFoundError):
            return "the repository has no such revision; check the branch, tag or commit"
        if isinstance(cause, HfHubHTTPError) and not isinstance(cause, EntryNotFoundError):
            status = cause.response.status_code
            return _PROBLEMS.get(status, f"{status}: the Hub has a problem; try again later")
        if isinstance(cause, EntryNotFoundError) and isinstance(cause, HfHubHTTPError):
            return f"the repository lacks the file {str(cause.response.url).rsplit('/', 1)[-1]}"
        if isinstance(cause, OfflineModeIsEnabled):
            return "it is not in the cache, and HF_HUB_OFFLINE forbids to download it"
        if isinstance(cause, HTTPError | ConnectionError):
            return "the Hub could not be reached; check the network and HF_ENDPOINT"
        cause = cause.__cause__ or cause.__context__
    return None
