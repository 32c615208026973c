"""The data policy that folders and Hub repositories state, and the check before a push.

Publishing needs a statement for every file: what no record (`cpgg_hf.files.policy_record`) lists is restricted,
whatever its format. Networks, data sets and cards in the folder state policies too, which can only make it stricter.
"""

import getpass
import json
import logging
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cpgg_hf.data_policy import UNKNOWN_POLICY, strictest
from cpgg_hf.dataset.parquet import policies_of_rows
from cpgg_hf.errors import PolicyError
from cpgg_hf.files.policy_record import POLICY_FILE, is_hidden, read_record, recorded_policies

OVERRIDE_LOG = ".policy_overrides.jsonl"  # hidden, so it is never published

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")

_logger = logging.getLogger(__name__)


def policy_of(folder: str | os.PathLike[str]) -> str:
    """The strictest policy of all that a folder contains, see `stated_policies`; for anything else "restricted"."""
    return strictest(policy for _, policy in stated_policies(folder))


def inherited_policy(source: str | os.PathLike[str], repo_type: str = "model", if_unstated: str | None = None) -> str:
    """The policy that what is made from a source inherits: that of the networks and data sets in it.

    Args:
        source: a folder, or the name of a Hub repository, whose `config.json` or `dataset.json` states its policy.
        repo_type: "model" or "dataset".
        if_unstated: policy of a source, or of its parts, that states none; None means restricted. It cannot loosen a
            policy that is stated, nor stand for a repository that is absent or cannot be reached.
    """
    if Path(source).is_dir():
        stated = list(stated_by_parts(Path(source)))
        policies = [policy for _, policy in stated]
        if {path.name for path, _ in stated} <= {"README.md"}:  # a card does not stand for its folder
            policies.append(None)
    elif Path(source).exists():
        policies = [None]  # a file, such as a CSV of phenotypes, states none
    else:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )

        name = "dataset.json" if repo_type == "dataset" else "config.json"
        try:
            policies = [_stated_in(Path(hf_hub_download(str(source), name, repo_type=repo_type)))]
        except (LocalEntryNotFoundError, HFValidationError):
            return UNKNOWN_POLICY
        except EntryNotFoundError:
            policies = [None]
        except HfHubHTTPError:
            return UNKNOWN_POLICY
    return strictest(if_unstated if policy is None else policy for policy in policies)


def policy_of_adapter(source: str | os.PathLike[str] | None, **hub: Any) -> str:
    """The policy of a PEFT adapter in a folder or Hub repository, which its `data_policy.json` states.

    Args:
        source: a folder, or the name of a repository; None if it is not known.
        hub: options of transformers' `cached_file`, such as `revision`, `token`, `subfolder`, `cache_dir`.
    """
    from transformers.utils import cached_file

    try:
        path = None if source is None else cached_file(source, POLICY_FILE, **hub)
    except OSError:
        return UNKNOWN_POLICY  # there is none, or it cannot be reached
    return UNKNOWN_POLICY if path is None else strictest([_stated_in(Path(path))])


def stated_policies(folder: str | os.PathLike[str]) -> list[tuple[str, str | None]]:
    """All policies that are stated in a folder, as (path, policy); None where none is.

    Networks (by their configuration), data sets (each policy of their rows), records of generated cines and cards
    state their own; every file has the policy that a record lists for it. Hidden files are not published.
    """
    folder = Path(folder)
    files = _files(folder)
    records = {path for path in files if path.name == POLICY_FILE and read_record(path) is not None}
    by_file = recorded_policies(folder, [path for path in files if path not in records])
    stated = [*stated_by_parts(folder), *by_file.items()] or [(folder, None)]
    return list(dict.fromkeys((str(path.relative_to(folder)), policy) for path, policy in stated))


def stated_by_parts(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """(path, policy) that networks, rows of data sets, records of generated cines and cards in a folder state.

    A network states none if its weights are not those that were recorded.
    """
    files = _files(folder)
    for place in sorted({path.parent for path in files if path.suffix in _WEIGHTS}):
        adapter = (place / "adapter_config.json").is_file()
        stating = place / (POLICY_FILE if adapter else "config.json")
        weights = [path for path in files if path.parent == place and path.suffix in _WEIGHTS]
        known = None not in recorded_policies(folder, weights).values()
        yield stating, _stated_in(stating) if known else None
    for path in files:
        if path.name == "generation.json":
            yield path, _stated_in(path)
        elif path.suffix == ".parquet":
            for policy in policies_of_rows(path):
                yield path, policy
        elif path.name in ("dataset.json", "README.md"):  # rows and networks state their own
            policy = _policy_of_card(path) if path.name == "README.md" else _stated_in(path)
            if policy is not None:
                yield path, policy


def check_policy(folder: str | os.PathLike[str], repo_id: str, override_policy: str | None = None) -> str:
    """The data policy of a folder, if it may be pushed.

    Args:
        folder: the folder to publish.
        repo_id: the repository to publish to.
        override_policy: reason to publish a restricted folder; the caller logs it by `log_override`.

    Raises:
        PolicyError: the folder is restricted and no reason is given.
    """
    stated = stated_policies(folder)
    policy = strictest(policy for _, policy in stated)
    if policy != UNKNOWN_POLICY:
        return policy
    if override_policy is None or not override_policy.strip():
        reasons = _restricted_parts(stated)
        shown = "; ".join(dict.fromkeys(reasons[:3])) + (f"; and {len(reasons) - 3} more" if len(reasons) > 3 else "")
        raise PolicyError(
            f"{folder} is restricted and is not pushed to {repo_id} ({shown}); keep it in the environment that it was "
            f"approved for, state the policy of files that you added or changed in {POLICY_FILE} (record_policy), or "
            "give the reason to publish it (--override-policy), which is logged."
        )
    return policy


def log_override(folder: str | os.PathLike[str], repo_id: str, reason: str) -> None:
    """Record why a restricted folder is published, as a warning and in `.policy_overrides.jsonl` in the folder."""
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "user": getpass.getuser(),
        "repository": repo_id,
        "reason": reason,
        "restricted": _restricted_parts(stated_policies(folder)),
    }
    with (Path(folder) / OVERRIDE_LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")
    _logger.warning("data policy overridden: %s goes to %s because %r", folder, repo_id, reason)


def _restricted_parts(stated: Iterable[tuple[str, str | None]]) -> list[str]:
    return [
        f"{place} states {'no data policy' if policy is None else repr(policy)}"
        for place, policy in stated
        if strictest([policy]) == UNKNOWN_POLICY
    ]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not is_hidden(path.relative_to(folder)))


def _stated_in(path: Path) -> str | None:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    policy = content.get("data_policy") if isinstance(content, dict) else None
    return None if policy is None else str(policy)


def _policy_of_card(path: Path) -> str | None:
    from huggingface_hub import metadata_load

    try:
        return (metadata_load(path) or {}).get("data_policy")
    except ValueError:
        return None
