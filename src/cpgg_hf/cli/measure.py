"""`cpgg measure`: measures the phenotypes of a cine."""

import argparse
from typing import Any

from cpgg_hf.cli.options import add_json, add_mask, add_segmenter, add_view, new_command
from cpgg_hf.cli.printing import print_json, print_notes


def add_command(commands: Any) -> None:
    """Add `measure` to the commands."""
    command = new_command(commands, "measure", _run, "measure the phenotypes of a cine")
    command.add_argument("cine", help="NIfTI file or DICOM folder")
    add_segmenter(command)
    add_mask(command)
    add_view(command)
    add_json(command, "measurement")


def _run(arguments: argparse.Namespace) -> None:
    measured = measure(arguments.cine, arguments.segmenter, arguments.view, arguments.mask)
    if arguments.json:
        print_json(measured)
        return
    print_notes(measured["warnings"])
    for name, value in measured["phenotypes"].items():
        print(f"{name:16s}{value:10.2f} {measured['units'][name]}")
    if not measured["phenotypes"]:
        print("no heart was found")
    for chamber, curve in measured["volume_curves_ml"].items():
        print(f"{chamber:16s}{min(curve):10.2f} to {max(curve):.2f} mL over the beat (--json prints the curve)")
    if measured["end_systole_frame"] is not None:
        print(f"end diastole in frame {measured['end_diastole_frame']}, ", end="")
        print(f"end systole in frame {measured['end_systole_frame']}")


def measure(path: str, segmenter: str | None, view: str = "4ch", mask: str | None = None) -> dict[str, Any]:
    """The measurable phenotypes of a NIfTI file or a DICOM folder, and its volume curves.

    The formulas are those of a four-chamber view, so other planes are refused unless `view` is "any". By default,
    scans and generated cines have different segmenters; a mask with labels for every frame replaces the segmentation.
    """
    import numpy as np

    from cpgg_hf.cli.cines import read_cine
    from cpgg_hf.cli.models import load_segmenter
    from cpgg_hf.measure import measure_cine
    from cpgg_hf.measure.plausibility import plausible
    from cpgg_hf.phenotypes import PHENOTYPES, phenotype_index

    cine, probabilities = read_cine(path, view, segmenter, mask)
    if probabilities is None:
        measured = measure_cine(cine, load_segmenter(segmenter, scans=cine.acquired))
    else:
        measured = measure_probabilities(cine, probabilities)
    phenotypes, doubts = plausible(measured.phenotypes)
    curves = {
        chamber: np.round(curve, 2).tolist()
        for chamber, curve in measured.volumes_ml.items()
        if np.isfinite(curve).all() and any(name.startswith(chamber) for name in phenotypes)
    }
    return {
        "cine": path,
        "spacing_mm": cine.pixel_size_mm,
        "frame_time_ms": cine.frame_time_ms,
        "end_diastole_frame": measured.end_diastole,
        "end_systole_frame": measured.end_systole,
        "phenotypes": phenotypes,
        "volume_curves_ml": curves,
        "warnings": [*cine.warnings, *doubts],
        "units": {name: PHENOTYPES[phenotype_index(name)].unit for name in phenotypes},
    }


def measure_probabilities(cine: Any, probabilities: Any) -> Any:
    """`measure_labels` of a prepared scan."""
    import torch

    from cpgg_hf.measure import measure_labels

    return measure_labels(torch.from_numpy(probabilities), cine.pixel_size_mm, cine.frame_time_ms)
