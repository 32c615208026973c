"""`cpgg evaluate`: fidelity and controllability of generated cines."""

import argparse
from typing import Any

from cpgg_hf.cli.options import add_device, add_json, add_seed, add_segmenter, add_split, new_command
from cpgg_hf.cli.printing import print_json
from cpgg_hf.errors import RequestError

_COLUMNS = ["unit", "num_cines", "num_unmeasured", "bias", "rmse", "r2", "r2_low", "r2_high", "pearson_r", "slope"]


def add_command(commands: Any) -> None:
    """Add `evaluate` and its metrics to the commands."""
    evaluate = commands.add_parser("evaluate", help="evaluate generated cines")
    metrics = evaluate.add_subparsers(dest="metric", required=True, metavar="METRIC")
    text = "compare the distributions of generated and reference cines"
    fidelity = new_command(metrics, "fidelity", _fidelity, text)
    fidelity.add_argument("generated", help="folder of .nii.gz cines, or data set")
    fidelity.add_argument("reference", help="the same, of at least twice as many reference cines")
    add_split(fidelity, "split of the reference data set (default: its only one, or test)", "--reference-split")
    text = "compare measured with requested phenotypes"
    controllability = new_command(metrics, "controllability", _controllability, text)
    controllability.add_argument("generated", help="folder that `cpgg generate` wrote, or data set")
    add_segmenter(controllability)
    add_device(controllability)
    for metric in (fidelity, controllability):
        add_split(metric, "split of the generated data set (default: its only one, or test)")
        add_seed(metric)
        add_json(metric, "figures")


def _fidelity(arguments: argparse.Namespace) -> None:
    from cpgg_hf.cli.cines import read_cine_set
    from cpgg_hf.metrics import RandomFeatureNetwork, fidelity_report, to_plain

    generated = read_cine_set(arguments.generated, arguments.split)
    reference = read_cine_set(arguments.reference, arguments.reference_split)
    report = fidelity_report(generated, reference, RandomFeatureNetwork(), arguments.seed)
    if arguments.json:
        print_json(to_plain(report))
        return
    for name in ("frechet", "precision_recall", "reference_precision_recall"):
        print(name, *(f"{key}={value}" for key, value in to_plain(getattr(report, name)).items()))
    print(report.statistics.to_string(float_format="{:.4g}".format))


def _controllability(arguments: argparse.Namespace) -> None:
    import numpy as np

    from cpgg_hf.cli.cines import read_cine_set
    from cpgg_hf.cli.models import load_segmenter
    from cpgg_hf.measure import measure_cines
    from cpgg_hf.metrics import controllability, to_plain

    cines = read_cine_set(arguments.generated, arguments.split)
    requested = np.array([np.full(82, np.nan) if cine.phenotypes is None else cine.phenotypes for cine in cines])
    if not np.isfinite(requested).any():
        raise RequestError(f"{arguments.generated} has no requested phenotypes; put phenotypes.csv next to the cines.")
    measured = measure_cines(cines, load_segmenter(arguments.segmenter, device=arguments.device), progress=True)
    table = controllability(requested, measured, arguments.seed)
    table = table[table["measurable"]]
    if arguments.json:
        print_json(to_plain(table))
        return
    pairs = zip(table["r2"].to_list(), table["r2_needs"], strict=True)
    r2 = [f"needs {needs}" if needs else f"{value:.3f}" for value, needs in pairs]
    print(table.assign(r2=r2)[_COLUMNS].to_string(float_format="{:.3f}".format, na_rep=""))
