"""`cpgg push`: a checkpoint, a network or a data set to a Hub repository."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from cpgg_hf.cli.options import new_command
from cpgg_hf.errors import RequestError


def add_command(commands: Any) -> None:
    """Add `push` to the commands."""
    text = "push a checkpoint, a network or a data set to a private Hub repository"
    command = new_command(commands, "push", _run, text)
    command.add_argument("folder", help="folder to push; a model without a card gets one")
    command.add_argument("repository", metavar="OWNER/NAME", help="created if missing")
    text = "type of the repository (default: inferred from the folder)"
    command.add_argument("--type", choices=("model", "dataset"), help=text)
    command.add_argument("--revision", metavar="BRANCH", help="created if missing (default: main)")
    command.add_argument("--public", action="store_true", help="make a new repository public")
    text = "also push the branch remote-code, which loads where this package is not installed"
    command.add_argument("--remote-code", action="store_true", help=text)
    text = "secret key of the cohort's pseudonyms: all files are searched for participants' identifiers"
    command.add_argument("--key-file", help=text)
    text = "data set prepared with that key; repeatable (default: the folder itself)"
    command.add_argument("--cohort", action="append", default=[], metavar="DIR", help=text)
    text = "override the data policy (the reason is logged; private repositories only)"
    command.add_argument("--override-policy", metavar="REASON", help=text)
    command.add_argument("--message", help="commit message")


def _run(arguments: argparse.Namespace) -> None:
    from cpgg_hf.dataset import DESCRIPTION_FILE
    from cpgg_hf.hub.push import push_folder
    from cpgg_hf.preparation.cohorts.participants import participants
    from cpgg_hf.release.model_card import CARD_FILE, write_model_card
    from cpgg_hf.release.remote_checkpoint import REMOTE_CODE_BRANCH, write_remote_checkpoint

    folder, key_file, cohorts = Path(arguments.folder), arguments.key_file, arguments.cohort
    if not folder.is_dir():
        raise RequestError(f"there is no folder {folder}; check the path.")
    if cohorts and key_file is None:
        raise RequestError("--cohort needs --key-file to recognise participants; give both.")
    repo_type = arguments.type or ("dataset" if (folder / DESCRIPTION_FILE).is_file() else "model")
    if arguments.remote_code and (repo_type != "model" or arguments.revision is not None):
        raise RequestError("--remote-code pushes a model to its own branch; leave out --type and --revision.")
    options: dict[str, Any] = {
        "repo_type": repo_type,
        "private": not arguments.public,
        "commit_message": arguments.message,
        "override_policy": arguments.override_policy,
        "is_participant": None if key_file is None else participants(key_file, cohorts or [arguments.folder]),
    }
    if repo_type == "model" and not (folder / CARD_FILE).exists():
        write_model_card(folder, repo_id=arguments.repository)
    if not arguments.remote_code:
        print(f"pushed {push_folder(folder, arguments.repository, revision=arguments.revision, **options)}")
        return
    with tempfile.TemporaryDirectory() as place:
        standalone = Path(place) / folder.resolve().name
        write_remote_checkpoint(folder, standalone)
        print(f"pushed {push_folder(folder, arguments.repository, **options)}")
        print(f"pushed {push_folder(standalone, arguments.repository, revision=REMOTE_CODE_BRANCH, **options)}")
