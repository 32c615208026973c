"""`--push_to_hub` and related options for scripts that write a folder; training stages have them as arguments."""

import argparse
import os
import sys
from pathlib import Path

from cpgg_hf.errors import PublishingError


def add_push_options(parser: argparse.ArgumentParser) -> None:
    """`--push_to_hub`, `--hub_model_id`, `--hub_public`, `--hub_override_policy`."""
    group = parser.add_argument_group("Hub")
    group.add_argument("--push_to_hub", action="store_true", help="push the finished folder")
    group.add_argument("--hub_model_id", metavar="OWNER/NAME", help="repository (default: the folder's name)")
    group.add_argument("--hub_public", action="store_true", help="make a new repository public")
    group.add_argument(
        "--hub_override_policy",
        metavar="REASON",
        help="reason to push a restricted folder; logged, private repositories only",
    )


def push_result(arguments: argparse.Namespace, folder: Path, repo_type: str = "model") -> int:
    """Push a finished folder if `--push_to_hub` is given, from the first process only.

    Returns:
        Exit status: 1 if the push failed; the folder is complete nevertheless.
    """
    if not arguments.push_to_hub or os.environ.get("RANK", "0") != "0":
        return 0
    from cpgg_hf.hub.push import push_folder
    from cpgg_hf.release.model_card import CARD_FILE, write_model_card

    repo_id = arguments.hub_model_id or folder.resolve().name
    try:
        if repo_type == "model" and not (folder / CARD_FILE).exists():
            write_model_card(folder, repo_id=repo_id)
        url = push_folder(
            folder,
            repo_id,
            repo_type=repo_type,
            private=not arguments.hub_public,
            override_policy=arguments.hub_override_policy,
        )
    except PublishingError as error:
        print(f"error: {folder} is complete, but was not pushed: {error}", file=sys.stderr)
        return 1
    print(f"pushed {url}")
    return 0
