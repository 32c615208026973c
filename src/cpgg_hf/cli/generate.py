"""`cpgg generate`: cines from phenotypes, as files or as a data set."""

import argparse
from pathlib import Path
from typing import Any

from cpgg_hf.cli.options import (
    SPLITS,
    add_device,
    add_dtype,
    add_request,
    add_settings,
    add_split,
    assignment,
    new_command,
    positive,
    settings_of,
)
from cpgg_hf.cli.parsing import did_you_mean
from cpgg_hf.data_policy import DATA_POLICIES
from cpgg_hf.exports import formats


def add_command(commands: Any) -> None:
    """Add `generate` to the commands."""
    add_generation(new_command(commands, "generate", _run, "generate cines from phenotypes"))


def add_generation(command: argparse.ArgumentParser, default_format: str = "nifti") -> None:
    """The options of `generate`, which `training_scripts/generate_dataset.py` has too."""
    add_request(command)
    command.add_argument("--out", required=True, help="folder to write; re-run the command to resume")
    text = f"one or more of {', '.join(formats())}, and parquet, a data set; gif and webp leave out frames "
    text += f"above 60 bpm (default: {default_format})"
    command.add_argument("--format", type=_formats, default=default_format, metavar="FORMAT[,FORMAT]", help=text)
    text = "cines at once; does not affect the output"
    command.add_argument("--batch-size", type=positive, default=8, help=text)
    add_settings(command)
    add_device(command)
    add_dtype(command)
    text = "all hearts meet this, such as 'LVEF < 40'; repeatable"
    command.add_argument("--where", action="append", default=[], metavar="CONDITION", help=text)
    command.add_argument("--verify", action="store_true", help="store measured next to requested phenotypes")
    text = "regenerate a cine if |measured - requested| exceeds VALUE; implies --verify; repeatable"
    command.add_argument("--max-error", action="append", default=[], type=assignment, metavar="NAME=VALUE", help=text)
    add_split(command, f"{', '.join(SPLITS)} (default: {SPLITS[0]})")
    text = "data policy of the output, at least as strict as the model's (default: the model's)"
    command.add_argument("--data-policy", choices=DATA_POLICIES, help=text)


def _formats(text: str) -> list[str]:
    from cpgg_hf.generation import format_names

    given = text.split(",")
    if unknown := set(given) - set(format_names()):
        raise argparse.ArgumentTypeError(
            f"unknown format {min(unknown)!r}; {did_you_mean(min(unknown), format_names())}"
        )
    return given


def _run(arguments: argparse.Namespace) -> None:
    num_cines, _ = generate(arguments)
    print(f"wrote {num_cines} cines to {arguments.out}")


def generate(
    arguments: argparse.Namespace,
    max_attempts: int = 5,
    segmenter: str | None = None,
    micro_batch_size: int | None = None,
    **options: Any,
) -> tuple[int, bool]:
    """Generate cines, or the share of one worker.

    Args:
        arguments: parsed options of `add_generation`; --max-error implies --verify.
        max_attempts: see `cpgg_hf.generation.Verification`.
        segmenter: folder of the segmenter that measures; None is the checkpoint's.
        micro_batch_size: None is the pipeline's; other values round differently.
        options: further ones of `cpgg_hf.generation.generate_dataset`.

    Returns:
        The number of requested cines, and whether all of them are complete.

    Raises:
        RequestError: as `generate_dataset`, or --max-error gives a phenotype twice.
    """
    from cpgg_hf import generation
    from cpgg_hf.cli.models import checkpoint_path, load_pipeline, load_segmenter
    from cpgg_hf.cli.requests import read_request, unique

    model, verification = arguments.model, None
    errors = unique(arguments.max_error, "--max-error")
    conditions = [generation.parse_condition(text) for text in arguments.where]
    rows = read_request(arguments.phenotypes, arguments.set)
    request = generation.GenerationRequest(rows, arguments.num_samples, conditions)
    generation.check_new(arguments.out)
    with generation.exit_on_sigterm():
        if arguments.verify or errors:
            network = load_segmenter(segmenter, model, device=arguments.device)
            verification = generation.Verification(network, errors, max_attempts)
        pipe = load_pipeline(model, arguments.device, arguments.dtype)
        pipe.set_progress_bar_config(disable=True)
        if micro_batch_size is not None:
            pipe.register_to_config(micro_batch_size=micro_batch_size)
        source = checkpoint_path(model)
        complete = generation.generate_dataset(
            pipe,
            arguments.out,
            request,
            formats=arguments.format,
            model=Path(source).resolve().name if Path(source).is_dir() else source,
            seed=arguments.seed,
            split=arguments.split or SPLITS[0],
            batch_size=arguments.batch_size,
            data_policy=arguments.data_policy,
            verification=verification,
            **settings_of(arguments),
            **options,
        )
        return len(request), complete
