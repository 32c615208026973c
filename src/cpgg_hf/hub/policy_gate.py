"""Refuses to publish what is restricted; only an explicit reason passes, and it is logged where the artefact lies."""

import getpass
import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from cpgg_hf.data_policy import UNKNOWN_POLICY, strictest
from cpgg_hf.errors import PolicyError
from cpgg_hf.hub.policy import stated_policies

OVERRIDE_LOG = ".policy_overrides.jsonl"  # hidden: it stays where it is

_logger = logging.getLogger(__name__)


def check_policy(folder: str | os.PathLike[str], repo_id: str, override_policy: str | None = None) -> str:
    """The data policy of a folder, if it may be pushed.

    Args:
        folder: what is to be published.
        repo_id: where.
        override_policy: why restricted artefacts may go there all the same. It is logged as a warning and in
            `.policy_overrides.jsonl` in the folder.

    Raises:
        PolicyError: the folder is restricted and there is no such reason.
    """
    stated = stated_policies(folder)
    policy = strictest(policy for _, policy in stated)
    if policy != UNKNOWN_POLICY:
        return policy
    reasons = [f"{place} {_says(said)}" for place, said in stated if strictest([said]) == UNKNOWN_POLICY]
    if override_policy is None or not override_policy.strip():
        shown = "; ".join(dict.fromkeys(reasons[:3])) + (f"; and {len(reasons) - 3} more" if len(reasons) > 3 else "")
        raise PolicyError(
            f"{folder} is restricted and is not pushed to {repo_id}: {shown}. What comes from patients' or "
            "participants' data must not leave the environment that it was approved for; only a written reason "
            "(--override-policy) lets it pass, and is logged."
        )
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "user": getpass.getuser(),
        "repository": repo_id,
        "reason": override_policy,
        "restricted": reasons,
    }
    with (Path(folder) / OVERRIDE_LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")
    _logger.warning("data policy overridden: %s goes to %s because %r", folder, repo_id, override_policy)
    return policy


def _says(policy: str | None) -> str:
    return "says nothing of its data policy" if policy is None else f"says {policy!r}"
