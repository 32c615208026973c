"""How many subjects per second one core prepares, and where the time goes: `python benchmarks/cohort_speed.py`.

The subjects are phantom hearts in fields as large as a scanner's, stored as NIfTI files that this script makes itself.
"""

import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf import phantom
from cpgg_hf.cine import Cine
from cpgg_hf.exports.nifti import write_nifti
from cpgg_hf.preparation.cohorts.cohort import prepare_cohort
from cpgg_hf.preparation.layouts import find_subjects

NUM_SUBJECTS = 24
FIELD = (192, 208)
SEGMENTER = Path(__file__).parents[1] / "checkpoints" / "cpgg-phantom-small" / "scan_segmenter"


def main() -> None:
    """Prepares 24 subjects in one process, twice, and writes rates and shares beside this file."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_collection(folder)
        result = {
            "hearts found by the scan segmenter": measure(folder, str(SEGMENTER)),
            "hearts found by motion": measure(folder, None),
            "num_subjects": NUM_SUBJECTS,
            "input": f"NIfTI, 30 frames of {FIELD[0]} x {FIELD[1]} pixels of 1.8 mm",
            "clock": "process time of one process, everything included; shares of wall time",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}, "
            f"Python {platform.python_version()}",
        }
    print(json.dumps(result, indent=2))
    results = Path(__file__).with_name("results")
    results.mkdir(exist_ok=True)
    (results / "cohort_speed.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure(folder: Path, segmenter: str | None) -> dict[str, Any]:
    """Prepares the collection in `folder`; how fast, and where the time went."""
    subjects = find_subjects("table", folder / "cohort.csv")
    out = folder / ("by motion" if segmenter is None else "by network")
    start, start_cpu = time.perf_counter(), time.process_time()
    report = prepare_cohort(subjects, out, folder / f"key of {out.name}", segmenter=segmenter)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    steps = report["seconds"] | {"write and report": seconds - sum(report["seconds"].values())}
    return {
        "subjects_per_second_and_core": round(report["num_used"] / cpu_seconds, 2),
        "num_used": report["num_used"],
        "share_of_time_by_step": {step: round(value / seconds, 3) for step, value in steps.items()},
        "wall_seconds": round(seconds, 1),
    }


def write_collection(folder: Path) -> None:
    """Phantoms in the middle of a larger field, and the table that lists them."""
    rows, columns = np.mgrid[: FIELD[0], : FIELD[1]]
    body = 60 + 30 * np.sin(rows / 9) * np.cos(columns / 11)
    lines = ["subject,path"]
    for seed, phenotypes in enumerate(phantom.sample_phenotypes(NUM_SUBJECTS, seed=0)):
        heart = phantom.render(phenotypes, seed)
        field = np.repeat(body[None], 30, axis=0)
        top, left = (FIELD[0] - 96) // 2, (FIELD[1] - 96) // 2
        field[:, top : top + 96, left : left + 96] = heart.cine.pixels[np.arange(30) * 50 // 30]
        path = folder / f"subject-{seed:03d}.nii.gz"
        write_nifti(
            path, Cine(pixels=field.round().astype(np.uint8), frame_time_ms=heart.cine.frame_time_ms * 50 / 30)
        )
        lines.append(f"{path.stem},{path.name}")
    (folder / "cohort.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
