"""Pushes a folder to a Hub repository: checked first, retried, resumable, private by default.

Files that are on the Hub already are not sent again; repeat an interrupted push to resume it.
"""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, LocalTokenNotFoundError

from cpgg_hf.data_policy import UNKNOWN_POLICY
from cpgg_hf.errors import PolicyError, PublishingError, brief
from cpgg_hf.hub.identifiers import check_identifiers
from cpgg_hf.hub.policy import check_policy, log_override

_SECONDS_BETWEEN_TRIES = (1, 4, 16, 60)  # in addition to the client's own retries of single requests
_HIDDEN = [".*", "*/.*"]
_REMEDIES = {
    401: "the Hub does not accept the token; log in with `hf auth login`, or set HF_TOKEN",
    403: "the token has no write access; use one that has, or ask the repository's owner",
    404: "no such repository or branch, or the token may not read it; check the name",
    409: "the repository is being changed or has a conflict; check it on the Hub, then push again",
    412: "somebody else pushed at the same time; push again to resume",
}

_logger = logging.getLogger(__name__)


def push_folder(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    repo_type: str = "model",
    revision: str | None = None,
    private: bool = True,
    token: str | None = None,
    commit_message: str | None = None,
    override_policy: str | None = None,
    create_pr: bool = False,
    is_participant: Callable[[str], bool] | None = None,
) -> str:
    """Upload a folder, except hidden files, in one commit; returns the address of the commit or pull request.

    Args:
        folder: a checkpoint, a component or a data set.
        repo_id: "owner/name"; created if missing.
        repo_type: "model" or "dataset".
        revision: branch, created if missing; None is the main one.
        private: whether a newly created repository is private.
        token: token of the Hub; None uses that of `hf auth login` or HF_TOKEN.
        commit_message: default: "Upload <folder>".
        override_policy: reason to push a restricted folder, to a private repository only; see `check_policy`.
        create_pr: whether to open a pull request to the main branch instead of changing it.
        is_participant: see `check_identifiers`.

    Raises:
        PolicyError: the folder is restricted without an override or would become public, or a file contains an
            identifier of a participant.
        PublishingError: the Hub refused, or could not be reached after several tries.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PublishingError(f"there is no folder {folder}; pass the folder to push.")
    if create_pr and revision is not None:
        raise PublishingError("create_pr opens a pull request to the main branch; leave out revision.")
    policy = check_policy(folder, repo_id, override_policy)
    if policy == UNKNOWN_POLICY and not private:
        raise PolicyError(f"{folder} is restricted and can never be public; push it to a private repository.")
    check_identifiers(folder, is_participant)
    if policy == UNKNOWN_POLICY:
        log_override(folder, repo_id, str(override_policy))
    api = HfApi(token=token)

    def push() -> str:
        api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
        if private and not api.repo_info(repo_id, repo_type=repo_type).private:
            if policy == UNKNOWN_POLICY:
                raise PolicyError(f"{folder} is restricted and {repo_id} is public; choose a private repository.")
            _logger.warning("%s exists and is public", repo_id)
        if revision is not None:
            api.create_branch(repo_id, repo_type=repo_type, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            repo_type=repo_type,
            revision=revision,
            create_pr=create_pr,
            folder_path=folder,
            ignore_patterns=_HIDDEN,
            commit_message=commit_message or f"Upload {folder.name}",
            commit_description=None if override_policy is None else f"Data policy overridden: {override_policy}",
        )
        return commit.pr_url or commit.commit_url

    return _with_retries(push, f"{folder} was not pushed to {repo_id}")


def _with_retries(push: Callable[[], str], failure: str) -> str:
    """Try again after interrupted connections and after the statuses 408, 429 and 5xx."""
    for seconds in (*_SECONDS_BETWEEN_TRIES, None):
        try:
            return push()
        except LocalTokenNotFoundError as error:
            raise PublishingError(f"{failure}: {_REMEDIES[401]}.") from error
        except HFValidationError as error:
            raise PublishingError(f"{failure}: {brief(error)}.") from error
        except (HTTPError, RuntimeError) as error:
            cause = _http_error(error)
            if cause is None:
                raise
            status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
            if status is not None and status < 500 and status not in (408, 429):
                remedy = _REMEDIES.get(status, brief(cause))
                raise PublishingError(f"{failure} ({status}): {remedy}.") from error
            if seconds is None:
                problem = "could not be reached" if status is None else f"answered {status}"
                raise PublishingError(
                    f"{failure}: the Hub {problem} {len(_SECONDS_BETWEEN_TRIES) + 1} times; push again to resume."
                ) from error
            _logger.warning("%s (%s), trying again in %d s", failure, brief(cause), seconds)
            time.sleep(seconds)
    raise AssertionError("the last try returns or raises")


def _http_error(error: BaseException) -> HTTPError | None:
    """The HTTP error that another was raised from: the client wraps those of single files in a RuntimeError."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, HTTPError):
        cause = cause.__cause__
    return cause
