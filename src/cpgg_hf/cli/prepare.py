"""`cpgg prepare`: cines on the package's grid from DICOM, NIfTI, phantoms, a collection or UK Biobank."""

import argparse
import sys
from typing import Any

from cpgg_hf.cli.options import (
    add_json,
    add_reading,
    add_seed,
    add_segmenter,
    add_view,
    new_command,
    positive,
    reading_of,
)
from cpgg_hf.cli.printing import print_json, print_notes
from cpgg_hf.errors import RequestError
from cpgg_hf.preparation.cohorts import TIME_LIMIT_S
from cpgg_hf.preparation.layouts import LAYOUTS

BY_MOTION = "; none locates the heart by its motion"


def add_command(commands: Any) -> None:
    """Add `prepare` and its sources to the commands."""
    prepare = commands.add_parser("prepare", help="turn DICOM, NIfTI or phantoms into cines on the package's grid")
    sources = prepare.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for name, text in (("dicom", "a DICOM folder of one series"), ("nifti", "a NIfTI file of one slice")):
        _add_series(new_command(sources, name, _prepare_series, f"prepare {text}"), text)
    _add_phantom(new_command(sources, "phantom", _prepare_phantom, "render a data set of phantom cines"))

    cohort = new_command(sources, "cohort", _prepare_cohort, "prepare every subject of a collection")
    cohort.add_argument("input", help="the collection's folder; with --layout table, a CSV file")
    cohort.add_argument("--layout", required=True, choices=LAYOUTS, help="how files and subjects are named")
    cohort.add_argument("--rr-ms", type=float, help="RR interval (ms) if the NIfTI header has no frame time")
    text = "public for a public collection whose licence allows redistribution (default: %(default)s)"
    cohort.add_argument("--data-policy", choices=("public", "restricted"), default="restricted", help=text)
    _add_subjects(cohort)

    text = "prepare UK Biobank's long-axis cines (field 20208) as delivered"
    ukb = new_command(sources, "ukb", _prepare_cohort, text)
    ukb.add_argument("--bulk", required=True, help="folder of the zip files")
    ukb.add_argument("--phenotypes", required=True, help="table of fields 24100-24181")
    ukb.add_argument("--instance", type=int, default=2, help="imaging visit (default: %(default)s)")
    _add_subjects(ukb)


def _add_series(source: argparse.ArgumentParser, text: str) -> None:
    source.add_argument("input", help=text)
    source.add_argument("--out", required=True, help="folder to write; must be new or empty")
    add_reading(source, BY_MOTION)
    source.add_argument("--phenotypes", help="JSON file with the subject's known phenotypes")
    source.add_argument("--upright", action="store_true", help="mirror the cine to the orientation of phantoms")
    add_json(source, "report")


def _add_phantom(source: argparse.ArgumentParser) -> None:
    _add_dataset(source)
    for split, count in (("train", 1000), ("validation", 100), ("test", 100)):
        source.add_argument(
            f"--num-{split}", type=int, default=count, help=f"number of {split} cines (default: %(default)s)"
        )
    add_seed(source)


def _add_subjects(source: argparse.ArgumentParser) -> None:
    _add_dataset(source)
    source.add_argument("--key-file", required=True, help="secret key of the pseudonyms; created if missing")
    add_view(source)
    add_segmenter(source, BY_MOTION)
    source.add_argument("--upright", action="store_true", help="mirror cines to the orientation of phantoms")
    text = "seconds after which a subject is excluded (default: %(default)g)"
    source.add_argument("--time-limit", type=float, default=TIME_LIMIT_S, help=text)
    add_json(source, "report")


def _add_dataset(source: argparse.ArgumentParser) -> None:
    text = "folder of the data set; re-run the command to resume an interrupted run"
    source.add_argument("--out", required=True, help=text)
    source.add_argument("--num-processes", type=positive, default=1, help="does not affect the output")


def _finder(arguments: argparse.Namespace) -> str | None:
    from cpgg_hf.cli.models import segmenter_path

    return None if arguments.segmenter == "none" else segmenter_path(arguments.segmenter, scans=True)


def _prepare_series(arguments: argparse.Namespace) -> None:
    from cpgg_hf.preparation.one_scan import prepare_one_scan

    report = prepare_one_scan(
        arguments.input,
        arguments.out,
        phenotypes=arguments.phenotypes,
        turn_upright=arguments.upright,
        **reading_of(arguments) | {"segmenter": None if arguments.mask else _finder(arguments)},
    )
    if arguments.json:
        print_json(report)
        return
    print_notes(report["warnings"])
    view, beat = report["view"], report["acquired"]
    print(f"{beat['num_frames']} frames, {beat['heart_rate']:g} bpm", end="")
    print(f", view {view['estimated']} ({_view_source(view)})")
    print(f"wrote {arguments.out}")


def _view_source(view: dict[str, Any]) -> str:
    return "from the image" if view["estimated_from"] == "image" else f"confidence {view['confidence']:g}"


def _prepare_phantom(arguments: argparse.Namespace) -> None:
    from cpgg_hf.preparation.phantom import prepare_phantom

    counts = (arguments.num_train, arguments.num_validation, arguments.num_test)
    prepare_phantom(arguments.out, *counts, arguments.seed, arguments.num_processes)
    print(f"wrote {arguments.out}")


def _prepare_cohort(arguments: argparse.Namespace) -> None:
    from cpgg_hf.preparation.cohorts.cohort import prepare_cohort

    settings: dict[str, Any] = {
        "view": arguments.view,
        "turn_upright": arguments.upright,
        "segmenter": _finder(arguments),
        "num_processes": arguments.num_processes,
        "time_limit_s": arguments.time_limit,
    }
    if arguments.source == "ukb":
        from cpgg_hf.preparation.layouts.ukb import find_ukb_subjects

        subjects = find_ukb_subjects(arguments.bulk, arguments.phenotypes, arguments.instance)
    else:
        from cpgg_hf.preparation.layouts import find_subjects

        settings["data_policy"] = arguments.data_policy
        subjects = find_subjects(arguments.layout, arguments.input, arguments.view, arguments.rr_ms)
    report = prepare_cohort(subjects, arguments.out, arguments.key_file, **settings)
    if not report["num_used"]:
        raise RequestError(
            f"none of the {report['num_subjects']} subjects could be used (see {arguments.out}/report.html); the most "
            f"frequent reason: {next(iter(report['reasons']))}"
        )
    if arguments.json:
        print_json(report)
        return
    for reason, number in report["reasons"].items():
        print(f"excluded {number}: {reason}", file=sys.stderr)
    splits = ", ".join(f"{number} in {split}" for split, number in report["splits"].items())
    print(f"{report['num_used']} of {report['num_subjects']} subjects prepared: {splits}")
    if report["num_without_row"]:
        print(f"{report['num_without_row']} of them have no row in the table, so no phenotypes")
    print(f"wrote {arguments.out} ({report['settings']['data_policy']} data); see report.html there")
