"""`cpgg demo`, `cpgg sample-phenotypes` and `cpgg generate`: what they take and print."""

import argparse
from typing import Any

from cpgg_hf.cli.options import add_command, add_model, add_seed, add_split, positive
from cpgg_hf.cli.requests import assignment


def add_commands(commands: Any) -> None:
    """Adds the three commands to those of `cpgg`."""
    demo = add_command(commands, "demo", _demo, "generate hearts of rising LV volume, measure them, draw them")
    add_model(demo)
    demo.add_argument("--out", default="outputs/demo", help="folder to write (default: %(default)s)")
    add_seed(demo)

    sample = add_command(commands, "sample-phenotypes", _sample_phenotypes, "draw phenotypes and write them as CSV")
    _add_request(sample)
    sample.add_argument("--out", required=True, help="CSV file to write")

    generate = add_command(commands, "generate", _generate, "generate cines from phenotypes")
    _add_request(generate)
    generate.add_argument("--out", required=True, help="folder to write; must be new or empty, but for parquet")
    text = "nifti (default), gif, webp, mp4, npz, dicom; parquet is a data set, which an interrupted run continues"
    generate.add_argument("--format", type=_formats, default=("nifti",), help=text)
    generate.add_argument("--batch-size", type=positive, default=8, help="cines in memory at once; changes no byte")
    generate.add_argument("--guidance-scale", type=float, help="1 = none, 0 = unconditional (default: the model's)")
    generate.add_argument("--num-decoding-steps", type=positive, help="passes of the MAR (default: the model's)")
    generate.add_argument("--num-inference-steps", type=positive, help="steps a token (default: the model's)")
    generate.add_argument("--temperature", type=float, help="scale of the diffusion's noise (default: the model's)")
    _add_dataset(generate)


def _add_request(command: argparse.ArgumentParser) -> None:
    add_model(command)
    request = command.add_mutually_exclusive_group()
    request.add_argument("--phenotypes", metavar="FILE", help="CSV table (one row a heart) or JSON file of one heart")
    request.add_argument(
        "--set", action="append", default=[], type=assignment, metavar="NAME=VALUE", help="fix a phenotype; repeatable"
    )
    command.add_argument("--num-samples", type=positive, default=1, help="hearts for each row of the request")
    add_seed(command)


def _add_dataset(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("parquet only")
    text = "keep hearts that meet it, as 'LVEF < 40'; repeatable"
    group.add_argument("--where", action="append", default=[], metavar="CONDITION", help=text)
    group.add_argument("--verify", action="store_true", help="measure each cine; the column `measured` keeps it")
    text = "draw a cine again whose phenotype is measured farther from the requested one; repeatable"
    group.add_argument("--max-error", action="append", default=[], type=assignment, metavar="NAME=VALUE", help=text)
    add_split(group, "of the data set (default: train)")
    text = "stricter than the model's own (default: the model's)"
    group.add_argument("--data-policy", choices=("phantom", "public", "restricted"), help=text)


def _formats(text: str) -> tuple[str, ...]:
    from cpgg_hf.commands.generation import FORMATS

    formats = tuple(text.split(","))
    if formats == ("parquet",):
        return formats
    unknown = set(formats) - set(FORMATS)
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown format {min(unknown)!r}; expected some of {','.join(FORMATS)}, or parquet"
        )
    return formats


def _demo(arguments: argparse.Namespace) -> None:
    from cpgg_hf.cli.demo import run_demo

    run_demo(arguments.out, arguments.model, arguments.seed)


def _sample_phenotypes(arguments: argparse.Namespace) -> None:
    from cpgg_hf.commands.generation import sample_phenotypes

    count = sample_phenotypes(
        arguments.model, arguments.phenotypes, arguments.set, arguments.num_samples, arguments.seed, arguments.out
    )
    print(f"wrote {count} rows to {arguments.out}")


def _generate(arguments: argparse.Namespace) -> None:
    names = ("guidance_scale", "num_decoding_steps", "num_inference_steps", "temperature")
    settings = {name: getattr(arguments, name) for name in names}
    write = _generate_parquet if arguments.format == ("parquet",) else _generate_files
    print(f"wrote {write(arguments, settings)} cines to {arguments.out}")


def _generate_files(arguments: argparse.Namespace, settings: dict[str, Any]) -> int:
    for name in ("where", "verify", "max_error", "split", "data_policy"):
        if getattr(arguments, name):
            raise ValueError(f"--{name.replace('_', '-')} is of data sets; they need --format parquet.")
    from cpgg_hf.commands.generation import generate

    return generate(
        arguments.model,
        arguments.phenotypes,
        arguments.set,
        arguments.num_samples,
        arguments.seed,
        arguments.out,
        arguments.format,
        arguments.batch_size,
        **settings,
    )


def _generate_parquet(arguments: argparse.Namespace, settings: dict[str, Any]) -> int:
    from cpgg_hf.commands.generated_dataset import generate_parquet

    description = generate_parquet(
        arguments.model,
        arguments.phenotypes,
        arguments.set,
        arguments.num_samples,
        arguments.out,
        where=arguments.where,
        verify=arguments.verify,
        max_error=arguments.max_error,
        seed=arguments.seed,
        split=arguments.split or "train",
        batch_size=arguments.batch_size,
        data_policy=arguments.data_policy,
        **settings,
    )
    return sum(split["num_cines"] for split in description["splits"].values())
