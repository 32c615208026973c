"""`cpgg measure`: measures the phenotypes of a cine."""

from __future__ import annotations

import argparse
import json
from math import isnan
from typing import Any

from cpgg_hf.cli.options import add_json, add_reading, new_command, reading_of
from cpgg_hf.cli.printing import print_json, print_notes


def add_command(commands: Any) -> None:
    """Add `measure` to the commands."""
    command = new_command(commands, "measure", _run, "measure the phenotypes of a cine")
    command.add_argument("cine", help="NIfTI file or DICOM folder")
    text = "folder to write pictures of the segmentation and measurement.json to; they show the subject"
    command.add_argument("--out", help=text)
    add_reading(command)
    add_json(command, "measurement")


def _run(arguments: argparse.Namespace) -> None:
    measured = measure(arguments.cine, arguments.out, **reading_of(arguments))
    if arguments.json:
        print_json(measured)
        return
    print_notes(measured["warnings"])
    for name, value in measured["phenotypes"].items():
        print(f"{name:16s}{value:10.2f} {measured['units'][name]}")
    if not measured["phenotypes"]:
        print("no phenotype can be trusted")
    for chamber, curve in measured["volume_curves_ml"].items():
        print(f"{chamber:16s}{min(curve):10.2f} to {max(curve):.2f} mL over the beat (--json prints the curve)")
    if measured["end_systole_frame"] is not None:
        print(f"end diastole in frame {measured['end_diastole_frame']}, ", end="")
        print(f"end systole in frame {measured['end_systole_frame']}")
    if arguments.out:
        print(f"wrote {arguments.out}")


def measure(path: str, out: str | None = None, **reading: Any) -> dict[str, Any]:
    """The plausible phenotypes of a NIfTI file or a DICOM folder, and its volume curves.

    The formulas are those of a four-chamber view, so other planes are refused unless `view` is "any". By default,
    scans and generated cines have different segmenters; a mask with labels for every frame replaces the segmentation.

    Args:
        path: a NIfTI file or a DICOM folder.
        out: a new or empty folder for `overlay.png`, `overlay.gif` and `measurement.json`.
        reading: `view`, `segmenter`, `mask`, `rr_ms` and `series` of `read_and_measure`.

    Returns:
        The content of `measurement.json`.
    """
    from cpgg_hf.cli.cines import read_and_measure
    from cpgg_hf.exports.overlay import write_overlay
    from cpgg_hf.files.staging import staged_folder
    from cpgg_hf.phenotypes import PHENOTYPES

    measured = read_and_measure(path, **reading)
    cine, trusted = measured.cine, measured.measurement
    known = [(p, float(v)) for p, v in zip(PHENOTYPES, trusted.phenotypes, strict=True) if not isnan(v)]
    result = {
        "cine": path,
        "spacing_mm": cine.pixel_size_mm,
        "frame_time_ms": cine.frame_time_ms,
        "end_diastole_frame": 0,
        "end_systole_frame": trusted.end_systole,
        "phenotypes": {phenotype.short_name: value for phenotype, value in known},
        "volume_curves_ml": {name: curve.round(2).tolist() for name, curve in trusted.volumes_ml.items()},
        "warnings": list(measured.warnings),
        "units": {phenotype.short_name: phenotype.unit for phenotype, _ in known},
    }
    if out is not None:
        with staged_folder(out) as folder:
            write_overlay(folder, cine, measured.probabilities, trusted.volumes_ml, trusted.end_systole)
            (folder / "measurement.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result
