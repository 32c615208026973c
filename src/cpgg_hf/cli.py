"""The `cpgg` command line: reads arguments, calls the functions in `cpgg_hf.commands`, prints what they return.

Exit codes: 0 done, 1 failed (`error: ...` in one line on stderr; the traceback with `--debug`), 2 wrong usage.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from cpgg_hf.data.errors import printable
from cpgg_hf.version import __version__

_MASK = "NIfTI file of labels (1 LV, 2 LV myocardium, 3 RV, 4 LA, 5 RA) that replaces the network"
_SPLITS = ("train", "validation", "test")
_SHIPPED = "checkpoint folder or hub repository (default: the one that the repository ships)"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code; wrong usage leaves by `SystemExit(2)`."""
    arguments = build_parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 1
    except Exception as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each one's `run` is the function that carries it out."""
    from cpgg_hf.preparation.layouts import LAYOUTS

    parser = argparse.ArgumentParser(prog="cpgg", description="Phenotype-controlled cardiac cine MRI (CPGG).")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def add(parent: Any, name: str, run: Any, text: str, **options: Any) -> argparse.ArgumentParser:
        command = parent.add_parser(name, help=text, description=text, parents=[common], **options)
        command.set_defaults(run=run)
        return command

    demo = add(commands, "demo", _demo, "generate hearts of rising LV volume, measure them, draw them")
    demo.add_argument("--model", help=_SHIPPED)
    demo.add_argument("--out", default="outputs/demo", help="folder to write (default: %(default)s)")
    demo.add_argument("--seed", type=_seed, default=0, help="the same seed gives the same result")

    sample = add(commands, "sample-phenotypes", _sample_phenotypes, "draw phenotypes and write them as CSV")
    _add_request(sample)
    sample.add_argument("--out", required=True, help="CSV file to write")

    generate = add(commands, "generate", _generate, "generate cines from phenotypes")
    _add_request(generate)
    generate.add_argument("--out", required=True, help="folder to write; must be new or empty, but for parquet")
    text = "nifti (default), gif, webp, mp4, npz, dicom; parquet is a data set, which an interrupted run continues"
    generate.add_argument("--format", type=_formats, default=("nifti",), help=text)
    generate.add_argument("--batch-size", type=_positive, default=8, help="cines in memory at once; changes no byte")
    generate.add_argument("--guidance-scale", type=float, help="1 = none, 0 = unconditional (default: the model's)")
    generate.add_argument("--num-decoding-steps", type=_positive, help="passes of the MAR (default: the model's)")
    generate.add_argument("--num-inference-steps", type=_positive, help="steps a token (default: the model's)")
    generate.add_argument("--temperature", type=float, help="scale of the diffusion's noise (default: the model's)")
    _add_dataset(generate)

    prepare = commands.add_parser("prepare", help="turn DICOM, NIfTI or phantoms into cines on the package's grid")
    sources = prepare.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for name, text in (("dicom", "a DICOM folder of one series"), ("nifti", "a NIfTI file of one slice")):
        source = add(sources, name, _prepare_series, f"prepare {text}")
        source.add_argument("input", help=text)
        source.add_argument("--out", required=True, help="folder to write; must be new or empty")
        _add_view(source)
        _add_finder(source)
        source.add_argument("--mask", help=_MASK)
        source.add_argument("--phenotypes", help="JSON file with what is known of the subject")
        source.add_argument("--rr-ms", type=float, help="length of the heart beat, where the files do not state it")
        source.add_argument("--upright", action="store_true", help="mirror the cine so that it stands as phantoms do")
        source.add_argument("--json", action="store_true", help="print the report as JSON")
    phantom = add(sources, "phantom", _prepare_phantom, "render a data set of phantom cines")
    phantom.add_argument("--out", required=True, help="folder of the data set; an interrupted one is continued")
    for split, count in (("train", 1000), ("validation", 100), ("test", 100)):
        phantom.add_argument(f"--num-{split}", type=int, default=count, help="cines (default: %(default)s)")
    phantom.add_argument("--seed", type=_seed, default=0, help="the same seed gives the same result")
    phantom.add_argument("--num-processes", type=_positive, default=1, help="the result is the same for any number")

    cohort = add(sources, "cohort", _prepare_cohort, "prepare every subject of a collection")
    cohort.add_argument("input", help="the collection's folder; with --layout table, a CSV file")
    cohort.add_argument("--layout", required=True, choices=LAYOUTS, help="how files and subjects are named")
    cohort.add_argument("--rr-ms", type=float, help="heart beat to assume where a NIfTI file states no frame time")
    text = "public for a public collection, whose licence allows to pass on what is made of it (default: %(default)s)"
    cohort.add_argument("--data-policy", choices=("public", "restricted"), default="restricted", help=text)
    ukb = add(sources, "ukb", _prepare_cohort, "prepare UK Biobank's long-axis cines (field 20208) as delivered")
    ukb.add_argument("--bulk", required=True, help="folder of the zip files")
    ukb.add_argument("--phenotypes", required=True, help="table of fields 24100-24181")
    ukb.add_argument("--instance", type=int, default=2, help="imaging visit (default: %(default)s)")
    for source in (cohort, ukb):
        source.add_argument("--out", required=True, help="folder of the data set; an interrupted one is continued")
        source.add_argument("--key-file", required=True, help="secret key of the pseudonyms; made when there is none")
        _add_view(source)
        _add_finder(source)
        source.add_argument("--upright", action="store_true", help="mirror cines so that they stand as phantoms do")
        source.add_argument("--num-processes", type=_positive, default=1, help="the result is the same for any number")
        source.add_argument("--json", action="store_true", help="print the report as JSON")

    measure = add(commands, "measure", _measure, "measure the phenotypes that a cine shows")
    measure.add_argument("cine", help="NIfTI file or DICOM folder")
    _add_segmenter(measure)
    measure.add_argument("--mask", help=_MASK)
    _add_view(measure)
    measure.add_argument("--json", action="store_true", help="print the measurement as JSON")

    evaluate = commands.add_parser("evaluate", help="judge generated cines")
    questions = evaluate.add_subparsers(dest="question", required=True, metavar="QUESTION")
    fidelity = add(questions, "fidelity", _fidelity, "how near generated cines are to true ones, as a set")
    fidelity.add_argument("generated", help="folder of .nii.gz cines, or data set")
    fidelity.add_argument("true", help="the same, of at least twice as many true cines")
    fidelity.add_argument("--true-split", choices=_SPLITS, help="the same, of the true data set")
    controllability = add(
        questions, "controllability", _controllability, "how well cines show the phenotypes they were asked for"
    )
    controllability.add_argument("generated", help="folder that `cpgg generate` wrote, or data set")
    _add_segmenter(controllability)
    for question in (fidelity, controllability):
        text = "of the generated data set (default: the only one there is, or test)"
        question.add_argument("--split", choices=_SPLITS, help=text)
        question.add_argument("--seed", type=_seed, default=0, help="the same seed gives the same result")
        question.add_argument("--json", action="store_true", help="print the figures as JSON")

    report = add(commands, "report", _report, "set a real cine beside one generated from the subject's phenotypes")
    report.add_argument("input", help="NIfTI file or DICOM folder of a four-chamber cine")
    report.add_argument("--phenotypes", required=True, help="CSV or JSON file with what is known of the subject")
    report.add_argument("--model", help=_SHIPPED)
    report.add_argument("--out", required=True, help="folder to write; it will hold pictures of the subject")
    _add_view(report)
    report.add_argument("--seed", type=_seed, default=0, help="the same seed gives the same result")
    report.add_argument("--json", action="store_true", help="print the report as JSON")
    _add_publishing(commands, add)
    return parser


def _add_publishing(commands: Any, add: Any) -> None:
    push = add(commands, "push", _push, "push a checkpoint, a network or a data set to a private hub repository")
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

    card = add(commands, "card", _card, "write the card of a checkpoint from its record and measured results")
    card.add_argument("folder", help="checkpoint or network")
    card.add_argument("--results", metavar="DIR", help="JSON of benchmarks/checkpoint_quality.py")
    card.add_argument("--repository", metavar="OWNER/NAME", help="where it will be loaded from")

    export = add(commands, "export-remote-code", _export_remote_code, "write the code that hub repositories hold")
    export.add_argument("--out", default="pipelines", help="folder to write (default: %(default)s)")
    export.add_argument("--check", action="store_true", help="compare instead: fail where a file is not up to date")


def _add_request(command: argparse.ArgumentParser) -> None:
    from cpgg_hf.commands.requests import assignment

    command.add_argument("--model", help=_SHIPPED)
    request = command.add_mutually_exclusive_group()
    request.add_argument("--phenotypes", metavar="FILE", help="CSV table (one row a heart) or JSON file of one heart")
    request.add_argument(
        "--set", action="append", default=[], type=assignment, metavar="NAME=VALUE", help="fix a phenotype; repeatable"
    )
    command.add_argument("--num-samples", type=_positive, default=1, help="hearts for each row of the request")
    command.add_argument("--seed", type=_seed, default=0, help="the same seed gives the same result")


def _add_dataset(command: argparse.ArgumentParser) -> None:
    from cpgg_hf.commands.requests import assignment

    group = command.add_argument_group("parquet only")
    text = "keep hearts that meet it, as 'LVEF < 40'; repeatable"
    group.add_argument("--where", action="append", default=[], metavar="CONDITION", help=text)
    group.add_argument("--verify", action="store_true", help="measure each cine; the column `measured` keeps it")
    text = "draw a cine again whose phenotype is measured farther from the requested one; repeatable"
    group.add_argument("--max-error", action="append", default=[], type=assignment, metavar="NAME=VALUE", help=text)
    group.add_argument("--split", choices=_SPLITS, help="of the data set (default: train)")
    text = "stricter than the model's own (default: the model's)"
    group.add_argument("--data-policy", choices=("phantom", "public", "restricted"), help=text)


def _add_segmenter(command: argparse.ArgumentParser) -> None:
    command.add_argument("--segmenter", help="folder of the segmenter (default: the shipped checkpoint's)")


def _add_finder(command: argparse.ArgumentParser) -> None:
    text = (
        "folder of the network that finds the heart (default: the shipped checkpoint's); none finds it by its motion"
    )
    command.add_argument("--segmenter", help=text)


def _finder(arguments: argparse.Namespace) -> str | None:
    from cpgg_hf.commands.models import segmenter_path

    return None if arguments.segmenter == "none" else segmenter_path(arguments.segmenter, scans=True)


def _add_view(command: argparse.ArgumentParser) -> None:
    text = "4ch refuses planes that look like another view (default: %(default)s)"
    command.add_argument("--view", choices=("4ch", "any"), default="4ch", help=text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^63 - 1")
    return int(text)


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


def _one_line(error: Exception) -> str:
    text = printable(" ".join(str(error).split())) or type(error).__name__
    # An error that is not one of ours names its kind, as its text alone may say little (KeyError: 'x').
    if isinstance(error, ValueError | OSError | ImportError):
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2))


def _print_notes(warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"note: {printable(warning)}", file=sys.stderr)


def _demo(arguments: argparse.Namespace) -> None:
    from cpgg_hf.demo import run_demo

    run_demo(arguments.out, arguments.model, arguments.seed)


def _sample_phenotypes(arguments: argparse.Namespace) -> None:
    from cpgg_hf.commands.generation import sample_phenotypes

    count = sample_phenotypes(
        arguments.model, arguments.phenotypes, arguments.set, arguments.num_samples, arguments.seed, arguments.out
    )
    print(f"wrote {count} rows to {arguments.out}")


def _generate(arguments: argparse.Namespace) -> None:
    if arguments.format == ("parquet",):
        _generate_parquet(arguments)
        return
    for name in ("where", "verify", "max_error", "split", "data_policy"):
        if getattr(arguments, name):
            raise ValueError(f"--{name.replace('_', '-')} is of data sets; they need --format parquet.")
    from cpgg_hf.commands.generation import generate

    count = generate(
        arguments.model,
        arguments.phenotypes,
        arguments.set,
        arguments.num_samples,
        arguments.seed,
        arguments.out,
        arguments.format,
        arguments.batch_size,
        guidance_scale=arguments.guidance_scale,
        num_decoding_steps=arguments.num_decoding_steps,
        num_inference_steps=arguments.num_inference_steps,
        temperature=arguments.temperature,
    )
    print(f"wrote {count} cines to {arguments.out}")


def _generate_parquet(arguments: argparse.Namespace) -> None:
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
        guidance_scale=arguments.guidance_scale,
        num_decoding_steps=arguments.num_decoding_steps,
        num_inference_steps=arguments.num_inference_steps,
        temperature=arguments.temperature,
    )
    count = sum(split["num_cines"] for split in description["splits"].values())
    print(f"wrote {count} cines to {arguments.out}")


def _prepare_series(arguments: argparse.Namespace) -> None:
    from cpgg_hf.preparation.folder import prepare_dicom_folder, prepare_nifti_file

    prepare = prepare_dicom_folder if arguments.source == "dicom" else prepare_nifti_file
    report = prepare(
        arguments.input,
        arguments.out,
        view=arguments.view,
        phenotypes=arguments.phenotypes,
        rr_ms=arguments.rr_ms,
        turn_upright=arguments.upright,
        segmenter=None if arguments.mask else _finder(arguments),
        mask=arguments.mask,
    )
    if arguments.json:
        _print_json(report)
        return
    _print_notes(report["warnings"])
    view, beat = report["view"], report["acquired"]
    judged = f"view judged {view['judged']} (confidence {view['confidence']:g})"
    print(f"{beat['num_frames']} frames, {beat['heart_rate']:g} bpm, {judged}")
    print(f"wrote {arguments.out}")


def _prepare_phantom(arguments: argparse.Namespace) -> None:
    from cpgg_hf.preparation.phantom import prepare_phantom

    prepare_phantom(
        arguments.out,
        arguments.num_train,
        arguments.num_validation,
        arguments.num_test,
        arguments.seed,
        arguments.num_processes,
    )
    print(f"wrote {arguments.out}")


def _prepare_cohort(arguments: argparse.Namespace) -> None:
    from cpgg_hf.commands.cohorts import prepare_collection, prepare_ukb

    settings = {
        "out": arguments.out,
        "key_file": arguments.key_file,
        "view": arguments.view,
        "turn_upright": arguments.upright,
        "segmenter": _finder(arguments),
        "num_processes": arguments.num_processes,
    }
    if arguments.source == "ukb":
        report = prepare_ukb(arguments.bulk, arguments.phenotypes, arguments.instance, **settings)
    else:
        settings |= {"rr_ms": arguments.rr_ms, "data_policy": arguments.data_policy}
        report = prepare_collection(arguments.input, arguments.layout, **settings)
    if arguments.json:
        _print_json(report)
        return
    for reason, number in report["reasons"].items():
        print(f"set aside {number}: {reason}", file=sys.stderr)
    splits = ", ".join(f"{number} in {split}" for split, number in report["splits"].items())
    print(f"{report['num_used']} of {report['num_subjects']} subjects prepared: {splits}")
    if report["num_without_row"]:
        print(f"{report['num_without_row']} of them without phenotypes: the table has no row for them")
    print(f"wrote {arguments.out}, {report['settings']['data_policy']} data; look at report.html there")


def _measure(arguments: argparse.Namespace) -> None:
    from cpgg_hf.commands.evaluation import measure

    measurement = measure(arguments.cine, arguments.segmenter, arguments.view, arguments.mask)
    if arguments.json:
        _print_json(measurement)
        return
    _print_notes(measurement["warnings"])
    for name, value in measurement["phenotypes"].items():
        print(f"{name:16s}{value:10.2f} {measurement['units'][name]}")
    if not measurement["phenotypes"]:
        print("no heart was found")
    for chamber, curve in measurement["volume_curves_ml"].items():
        print(f"{chamber:16s}{min(curve):10.2f} to {max(curve):.2f} mL over the beat (--json prints the curve)")
    if measurement["end_systole_frame"] is not None:
        print(f"end diastole in frame {measurement['end_diastole_frame']}, ", end="")
        print(f"end systole in frame {measurement['end_systole_frame']}")


def _controllability(arguments: argparse.Namespace) -> None:
    from cpgg_hf.commands.evaluation import evaluate_controllability
    from cpgg_hf.metrics import to_plain

    table = evaluate_controllability(arguments.generated, arguments.segmenter, arguments.seed, arguments.split)
    if arguments.json:
        _print_json(to_plain(table))
    else:
        print(table.drop(columns="measurable").to_string(float_format="{:.3f}".format))


def _fidelity(arguments: argparse.Namespace) -> None:
    from cpgg_hf.commands.evaluation import evaluate_fidelity

    splits = (arguments.split, arguments.true_split)
    report = evaluate_fidelity(arguments.generated, arguments.true, arguments.seed, *splits)
    if arguments.json:
        _print_json(report.to_dict())
        return
    for name in ("frechet", "precision_recall", "true_precision_recall"):
        print(name, *(f"{key}={value}" for key, value in getattr(report, name).to_dict().items()))
    print(report.statistics.to_string(float_format="{:.4g}".format))


def _report(arguments: argparse.Namespace) -> None:
    from cpgg_hf.commands.report import report

    result = report(
        arguments.input, arguments.phenotypes, arguments.out, arguments.model, arguments.view, arguments.seed
    )
    if arguments.json:
        _print_json(result)
        return
    _print_notes(result["warnings"])
    quality = result["vae_reconstruction"]
    print(f"the VAE's reconstruction of the real cine: PSNR {quality['psnr_db']:.1f} dB, SSIM {quality['ssim']:.3f}")
    print(f"{'':12s}{'known':>10s}{'completed':>10s}{'generated':>10s}   (the last measured)")
    for row in result["phenotypes"]:
        if row["measured_generated"] is not None:
            cells = (row["known"], row["completed"], row["measured_generated"])
            print(f"{row['phenotype']:12s}" + "".join(f"{'' if x is None else format(x, '.1f'):>10s}" for x in cells))
    print(result["note"])
    print(f"wrote {arguments.out}")


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
    from cpgg_hf.publishing.model_card import write_model_card

    print(f"wrote {write_model_card(arguments.folder, arguments.results, arguments.repository)}")


def _export_remote_code(arguments: argparse.Namespace) -> None:
    from cpgg_hf.commands.publishing import export_code

    for path in export_code(arguments.out, arguments.check):
        print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
