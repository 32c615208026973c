"""`cpgg push`, `cpgg card` and `cpgg export-remote-code`."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpgg_hf.errors import RequestError


def push(
    folder: str,
    repo_id: str,
    *,
    repo_type: str | None = None,
    revision: str | None = None,
    public: bool = False,
    remote_code: bool = False,
    key_file: str | None = None,
    cohorts: Sequence[str] = (),
    override_policy: str | None = None,
    message: str | None = None,
) -> list[str]:
    """Pushes a checkpoint, a network or a data set; returns the addresses of the commits.

    Args:
        folder: what to push. A model without a card gets one first.
        repo_id: "owner/name".
        repo_type: "model" or "dataset"; None is told by the folder.
        revision: branch; None is the main one.
        public: whether a new repository is public.
        remote_code: whether the branch `remote-code`, which loads without this package, is pushed too.
        key_file: of the pseudonyms, by which participants' numbers are recognised.
        cohorts: data sets that were prepared with it; none = the folder itself.
        override_policy: why something restricted is pushed all the same.
        message: of the commit.

    Raises:
        PublishingError: it was refused, or did not arrive.
    """
    from cpgg_hf.dataset import DESCRIPTION_FILE
    from cpgg_hf.hub.push import push_folder
    from cpgg_hf.preparation.cohorts.participants import participants
    from cpgg_hf.release.model_card import CARD_FILE, write_model_card
    from cpgg_hf.release.remote_checkpoint import REMOTE_CODE_BRANCH, write_remote_checkpoint

    path = Path(folder)
    if not path.is_dir():
        raise RequestError(f"there is no folder {folder}; give the one to push.")
    if cohorts and key_file is None:
        raise RequestError("--cohort tells participants only together with --key-file; give both.")
    repo_type = repo_type or ("dataset" if (path / DESCRIPTION_FILE).is_file() else "model")
    if remote_code and (repo_type != "model" or revision is not None):
        raise RequestError("--remote-code is of models and has a branch of its own; leave out --type and --revision.")
    options: dict[str, Any] = {
        "repo_type": repo_type,
        "private": not public,
        "commit_message": message,
        "override_policy": override_policy,
        "is_participant": None if key_file is None else participants(key_file, cohorts or [folder]),
    }
    if repo_type == "model" and not (path / CARD_FILE).exists():
        write_model_card(path, repo_id=repo_id)
    if not remote_code:
        return [push_folder(path, repo_id, revision=revision, **options)]
    with tempfile.TemporaryDirectory() as place:
        standing_alone = Path(place) / path.resolve().name
        write_remote_checkpoint(path, standing_alone)
        main = push_folder(path, repo_id, **options)
        return [main, push_folder(standing_alone, repo_id, revision=REMOTE_CODE_BRANCH, **options)]


def export_code(out: str, check: bool = False) -> list[str]:
    """Writes the files for hub repositories, or compares those that are there; returns their paths.

    Raises:
        RequestError: `check` found files that are not what the sources give.
    """
    from cpgg_hf.release.remote_code import changed_remote_code, export_remote_code

    if not check:
        return [str(path) for path in export_remote_code(Path(out))]
    changed = changed_remote_code(Path(out))
    if changed:
        raise RequestError(f"{', '.join(changed)} in {out} differ from the sources; run `cpgg export-remote-code`.")
    return []
