"""`cpgg measure`, `cpgg evaluate` and `cpgg report`: what they take and print."""

import argparse
from typing import Any

from cpgg_hf.cli.options import (
    add_command,
    add_json,
    add_mask,
    add_model,
    add_seed,
    add_split,
    add_view,
)
from cpgg_hf.cli.printing import print_json, print_notes


def add_commands(commands: Any) -> None:
    """Adds the three commands to those of `cpgg`."""
    measure = add_command(commands, "measure", _measure, "measure the phenotypes that a cine shows")
    measure.add_argument("cine", help="NIfTI file or DICOM folder")
    _add_segmenter(measure)
    add_mask(measure)
    add_view(measure)
    add_json(measure, "measurement")

    evaluate = commands.add_parser("evaluate", help="judge generated cines")
    questions = evaluate.add_subparsers(dest="question", required=True, metavar="QUESTION")
    text = "how near generated cines are to true ones, as a set"
    fidelity = add_command(questions, "fidelity", _fidelity, text)
    fidelity.add_argument("generated", help="folder of .nii.gz cines, or data set")
    fidelity.add_argument("true", help="the same, of at least twice as many true cines")
    add_split(fidelity, "the same, of the true data set", "--true-split")
    text = "how well cines show the phenotypes they were asked for"
    controllability = add_command(questions, "controllability", _controllability, text)
    controllability.add_argument("generated", help="folder that `cpgg generate` wrote, or data set")
    _add_segmenter(controllability)
    for question in (fidelity, controllability):
        add_split(question, "of the generated data set (default: the only one there is, or test)")
        add_seed(question)
        add_json(question, "figures")

    text = "set a real cine beside one generated from the subject's phenotypes"
    report = add_command(commands, "report", _report, text)
    report.add_argument("input", help="NIfTI file or DICOM folder of a four-chamber cine")
    report.add_argument("--phenotypes", required=True, help="CSV or JSON file with what is known of the subject")
    add_model(report)
    report.add_argument("--out", required=True, help="folder to write; it will hold pictures of the subject")
    add_view(report)
    add_seed(report)
    add_json(report, "report")


def _add_segmenter(command: argparse.ArgumentParser) -> None:
    command.add_argument("--segmenter", help="folder of the segmenter (default: the shipped checkpoint's)")


def _measure(arguments: argparse.Namespace) -> None:
    from cpgg_hf.commands.evaluation import measure

    measurement = measure(arguments.cine, arguments.segmenter, arguments.view, arguments.mask)
    if arguments.json:
        print_json(measurement)
        return
    print_notes(measurement["warnings"])
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
        print_json(to_plain(table))
    else:
        print(table.drop(columns="measurable").to_string(float_format="{:.3f}".format))


def _fidelity(arguments: argparse.Namespace) -> None:
    from cpgg_hf.commands.evaluation import evaluate_fidelity

    splits = (arguments.split, arguments.true_split)
    report = evaluate_fidelity(arguments.generated, arguments.true, arguments.seed, *splits)
    if arguments.json:
        print_json(report.to_dict())
        return
    for name in ("frechet", "precision_recall", "reference_precision_recall"):
        print(name, *(f"{key}={value}" for key, value in getattr(report, name).to_dict().items()))
    print(report.statistics.to_string(float_format="{:.4g}".format))


def _report(arguments: argparse.Namespace) -> None:
    from cpgg_hf.commands.report import report

    result = report(
        arguments.input, arguments.phenotypes, arguments.out, arguments.model, arguments.view, arguments.seed
    )
    if arguments.json:
        print_json(result)
        return
    print_notes(result["warnings"])
    quality = result["vae_reconstruction"]
    print(f"the VAE's reconstruction of the real cine: PSNR {quality['psnr_db']:.1f} dB, SSIM {quality['ssim']:.3f}")
    print(f"{'':12s}{'known':>10s}{'completed':>10s}{'generated':>10s}   (the last measured)")
    for row in result["phenotypes"]:
        if row["measured_generated"] is not None:
            cells = (row["known"], row["completed"], row["measured_generated"])
            print(f"{row['phenotype']:12s}" + "".join(f"{'' if x is None else format(x, '.1f'):>10s}" for x in cells))
    print(result["note"])
    print(f"wrote {arguments.out}")
