"""`cpgg generate`: cines from phenotypes, as files or as a data set."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpgg_hf.cli.options import (
    SPLITS,
    add_request,
    add_settings,
    add_split,
    assignment,
    new_command,
    positive,
    settings_of,
)
from cpgg_hf.data_policy import DATA_POLICIES
from cpgg_hf.exports import formats


def add_command(commands: Any) -> None:
    """Add `generate` to the commands."""
    command = new_command(commands, "generate", _run, "generate cines from phenotypes")
    add_request(command)
    command.add_argument(
        "--out", required=True, help="folder to write; re-run the command to resume an interrupted run"
    )
    text = f"one or more of {', '.join(formats())}, and parquet, a data set (default: nifti)"
    command.add_argument("--format", type=_parse_formats, default=("nifti",), metavar="FORMAT[,FORMAT]", help=text)
    command.add_argument(
        "--batch-size", type=positive, default=8, help="cines in memory at once; does not affect the output"
    )
    add_settings(command)
    text = "condition that all hearts must meet, such as 'LVEF < 40'; repeatable"
    command.add_argument("--where", action="append", default=[], metavar="CONDITION", help=text)
    command.add_argument("--verify", action="store_true", help="store measured next to requested phenotypes")
    text = "draw a cine again if the measured phenotype differs more from the requested value; repeatable"
    command.add_argument("--max-error", action="append", default=[], type=assignment, metavar="NAME=VALUE", help=text)
    add_split(command, f"split of the data set: {', '.join(SPLITS)} (default: train)")
    text = "stricter than the model's own (default: the model's)"
    command.add_argument("--data-policy", choices=DATA_POLICIES, help=text)


def _parse_formats(text: str) -> list[str]:
    from cpgg_hf.generation import format_names

    given = text.split(",")
    if unknown := set(given) - set(format_names()):
        raise argparse.ArgumentTypeError(
            f"unknown format {min(unknown)!r}; expected some of {','.join(format_names())}"
        )
    return given


def _run(arguments: argparse.Namespace) -> None:
    num_cines, _ = generate(
        arguments.model,
        arguments.phenotypes,
        arguments.set,
        arguments.num_samples,
        arguments.out,
        formats=arguments.format,
        where=arguments.where,
        verify=arguments.verify,
        max_error=arguments.max_error,
        seed=arguments.seed,
        split=arguments.split or SPLITS[0],
        batch_size=arguments.batch_size,
        data_policy=arguments.data_policy,
        **settings_of(arguments),
    )
    print(f"wrote {num_cines} cines to {arguments.out}")


def generate(
    model: str | None,
    request: str | None,
    assignments: list[tuple[str, float]],
    num_samples: int,
    out: str,
    *,
    where: Sequence[str] = (),
    verify: bool = False,
    max_error: Sequence[tuple[str, float]] = (),
    max_attempts: int = 5,
    segmenter: str | None = None,
    micro_batch_size: int | None = None,
    **options: Any,
) -> tuple[int, bool]:
    """Generate cines, or the share of one worker.

    Args:
        model: folder or hub repository; None is the shipped one.
        request: CSV or JSON file, see `read_request`.
        assignments: of `--set`.
        num_samples: cines per row of the request.
        out: the folder; one that was started with the same settings is resumed.
        where: conditions such as `LVEF < 40`.
        verify: measure each cine.
        max_error: largest errors, such as ("LVEF", 5.0); they imply `verify`.
        max_attempts: see `cpgg_hf.generation.Verification`.
        segmenter: folder of the segmenter that measures; None is the checkpoint's.
        micro_batch_size: None is the pipeline's; other values round differently.
        options: of `cpgg_hf.generation.generate_dataset`.

    Returns:
        The number of requested cines, and whether all of them are complete.

    Raises:
        RequestError: as `generate_dataset`, or `max_error` gives a phenotype twice.
    """
    from cpgg_hf import generation
    from cpgg_hf.cli.models import checkpoint_path, load_pipeline, load_segmenter
    from cpgg_hf.cli.requests import read_request, unique

    errors = unique(list(max_error), "--max-error")
    conditions = [generation.parse_condition(text) for text in where]
    hearts = generation.GenerationRequest(read_request(request, assignments), num_samples, conditions)
    generation.check_new(out)
    with generation.exit_on_sigterm():
        verification = None
        if verify or errors:
            verification = generation.Verification(load_segmenter(segmenter, model), errors, max_attempts)
        pipe = load_pipeline(model)
        pipe.set_progress_bar_config(disable=True)
        if micro_batch_size is not None:
            pipe.register_to_config(micro_batch_size=micro_batch_size)
        source = checkpoint_path(model)
        name = Path(source).resolve().name if Path(source).is_dir() else source
        options |= {"model": name, "verification": verification}
        return len(hearts), generation.generate_dataset(pipe, out, hearts, **options)
