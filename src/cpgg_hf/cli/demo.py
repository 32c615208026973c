"""The demonstration (`make demo`): hearts of rising LV volume from phenotypes (the paper's figure 2), measured.

Writes the cines as NIfTI, all of them side by side as GIF, ED and ES frames with the key phenotypes under each heart
as PNG, and a table of requested and measured phenotypes.
"""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cpgg_hf.cli.models import checkpoint_path, load_pipeline, load_segmenter
from cpgg_hf.commands.generation import write_cine
from cpgg_hf.files.staging import staged_folder
from cpgg_hf.phenotypes import NAMES, PHENOTYPES, heart_rate, phenotype_index

if TYPE_CHECKING:
    from cpgg_hf.measure import CineMeasurement

# End-diastolic volumes in mL, from a small heart to a dilated one; all else is sampled to go with them.
LVEDV_ML = (90.0, 110.0, 130.0, 150.0, 170.0, 195.0, 220.0, 250.0)
SHOWN = ("LVEDV", "LVESV", "LVEF", "RVEDV", "LAV_max")


def run_demo(out: str | os.PathLike[str] = "outputs/demo", model: str | None = None, seed: int = 0) -> None:
    """Generates one heart for each of `LVEDV_ML`, measures them, and writes everything into `out`.

    Args:
        out: a folder; files of an earlier demonstration are replaced.
        model: a checkpoint with a `cine_segmenter` folder; None is the one that the repository ships.
        seed: other seeds give other hearts of the same volumes.
    """
    import torch

    from cpgg_hf.cine import cines_of
    from cpgg_hf.exports.gif import write_gif
    from cpgg_hf.measure import measure_cine

    with staged_folder(out, overwrite=True) as folder:
        print(f"loading {checkpoint_path(model)}", flush=True)
        pipe, segmenter = load_pipeline(model), load_segmenter(None, model)

        volumes = f"LVEDV from {LVEDV_ML[0]:g} to {LVEDV_ML[-1]:g} mL"
        print(f"generating {len(LVEDV_ML)} hearts with {volumes}", flush=True)
        start = time.perf_counter()
        pipe.set_progress_bar_config(desc="decoding steps")
        output = pipe([{"LVEDV": volume} for volume in LVEDV_ML], generator=torch.Generator().manual_seed(seed))
        seconds = time.perf_counter() - start
        print(f"  {seconds:.1f} s, {seconds / len(LVEDV_ML):.1f} s a heart", flush=True)

        print("measuring what was generated", flush=True)
        measurements = [measure_cine(cine, segmenter) for cine in cines_of(output)]
        requested = output.phenotypes.to_numpy()
        measured = np.stack([measurement.phenotypes for measurement in measurements])

        for index, (cine, frame_time_ms) in enumerate(zip(output.cines, output.frame_time_ms, strict=True)):
            write_cine(folder / f"heart_{index + 1}", cine, float(frame_time_ms), output.spacing_mm)
        # Side by side all beat together, at the mean heart rate.
        write_gif(folder / "hearts.gif", output.cines, float(output.frame_time_ms.mean()), columns=4)
        _draw_sheet(folder / "hearts.png", output.cines, measurements, requested)
        _write_table(folder / "phenotypes.csv", output.seeds, requested, measured)

    print(controllability_sentences(requested, measured))
    print(f"wrote hearts.png, hearts.gif, phenotypes.csv and heart_1.nii.gz to heart_{len(LVEDV_ML)}.nii.gz to {out}")


def controllability_sentences(requested: np.ndarray, measured: np.ndarray, names: tuple[str, ...] = SHOWN) -> str:
    """How near the measured phenotypes (N, 82) are to the requested ones, a line a phenotype."""
    from cpgg_hf.metrics import r2_score

    lines = []
    for name in names:
        index = phenotype_index(name)
        found = np.isfinite(measured[:, index])
        x, y, unit = requested[found, index], measured[found, index], PHENOTYPES[index].unit
        line = f"  {name:8s} measurable in {len(x)} of {len(found)} hearts"
        if len(x) > 1:
            line += f": asked {x.min():.0f} to {x.max():.0f} {unit}, found {y.min():.0f} to {y.max():.0f} {unit}"
            line += f", {np.abs(y - x).mean():.1f} {unit} apart on average, R2 {float(r2_score(x, y)):.2f}"
        lines.append(line)
    return "\n".join(lines)


def _draw_sheet(path: Path, cines: np.ndarray, measurements: "list[CineMeasurement]", requested: np.ndarray) -> None:
    from cpgg_hf.exports.sheet import cine_sheet

    captions = []
    for asked, measurement, rate in zip(requested, measurements, heart_rate(requested), strict=True):
        lines = [f"{'':8s}{'asked':>6s}{'found':>6s}"]
        for name in SHOWN:
            index = phenotype_index(name)
            found = measurement.phenotypes[index]
            shown = "-" if np.isnan(found) else f"{found:.0f}"
            lines.append(f"{name:8s}{asked[index]:6.0f}{shown:>6s} {PHENOTYPES[index].unit}")
        captions.append("\n".join([*lines, f"heart rate {rate:.0f} bpm"]))
    # Where no heart was found, the third of the beat at which systole usually ends.
    usual = cines.shape[1] // 3
    frames = [(0, usual if one.end_systole is None else one.end_systole) for one in measurements]
    cine_sheet(list(cines), captions, frames, path, title="Generated four-chamber cines, ordered by LVEDV")


def _write_table(path: Path, seeds: np.ndarray, requested: np.ndarray, measured: np.ndarray) -> None:
    """One row a heart and phenotype: heart, seed, phenotype, unit, requested, measured (empty: cannot be seen)."""
    import pandas as pd

    count = len(requested)
    table = pd.DataFrame(
        {
            "heart": np.repeat(np.arange(1, count + 1), len(NAMES)),
            "seed": np.repeat(seeds, len(NAMES)),
            "phenotype": np.tile(NAMES, count),
            "unit": np.tile([phenotype.unit for phenotype in PHENOTYPES], count),
            "requested": requested.ravel(),
            "measured": measured.ravel(),
        }
    )
    table.to_csv(path, index=False)
