"""`cpgg push`, `cpgg card` and `cpgg export-remote-code`: what they take and print."""

import argparse
from typing import Any

from cpgg_hf.cli.options import add_command


def add_commands(commands: Any) -> None:
    """Adds the three commands to those of `cpgg`."""
    text = "push a checkpoint, a network or a data set to a private hub repository"
    push = add_command(commands, "push", _push, text)
    push.add_argument("folder", help="what to push; a model without a card gets one")
    push.add_argument("repository", metavar="OWNER/NAME", help="made when there is none")
    push.add_argument("--type", choices=("model", "dataset"), help="of the repository (default: told by the folder)")
    push.add_argument("--revision", metavar="BRANCH", help="made when there is none (default: main)")
    push.add_argument("--public", action="store_true", help="make a new repository public")
    text = "also push the branch remote-code, which loads where this package is not installed"
    push.add_argument("--remote-code", action="store_true", help=text)
    text = "key of the cohort's pseudonyms: participants' numbers are looked for in all files"
    push.add_argument("--key-file", help=text)
    text = "data set prepared with that key; repeatable (default: the folder itself)"
    push.add_argument("--cohort", action="append", default=[], metavar="DIR", help=text)
    push.add_argument("--override-policy", metavar="REASON", help="push although restricted; logged, never public")
    push.add_argument("--message", help="of the commit")

    card = add_command(commands, "card", _card, "write the card of a checkpoint from its record and measured results")
    card.add_argument("folder", help="checkpoint or network")
    card.add_argument("--results", metavar="DIR", help="JSON of benchmarks/checkpoint_quality.py")
    card.add_argument("--repository", metavar="OWNER/NAME", help="where it will be loaded from")

    text = "write the code that hub repositories hold"
    export = add_command(commands, "export-remote-code", _export_remote_code, text)
    export.add_argument("--out", default="pipelines", help="folder to write (default: %(default)s)")
    export.add_argument("--check", action="store_true", help="compare instead: fail where a file is not up to date")


def _push(arguments: argparse.Namespace) -> None:
    from cpgg_hf.commands.publishing import push

    addresses = push(
        arguments.folder,
        arguments.repository,
        repo_type=arguments.type,
        revision=arguments.revision,
        public=arguments.public,
        remote_code=arguments.remote_code,
        key_file=arguments.key_file,
        cohorts=arguments.cohort,
        override_policy=arguments.override_policy,
        message=arguments.message,
    )
    for address in addresses:
        print(f"pushed {address}")


def _card(arguments: argparse.Namespace) -> None:
    from cpgg_hf.release.model_card import write_model_card

    print(f"wrote {write_model_card(arguments.folder, arguments.results, arguments.repository)}")


def _export_remote_code(arguments: argparse.Namespace) -> None:
    from cpgg_hf.commands.publishing import export_code

    for path in export_code(arguments.out, arguments.check):
        print(f"wrote {path}")
