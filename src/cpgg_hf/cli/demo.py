"""`cpgg demo` (`make demo`): hearts of rising LV volume, generated (the paper's figure 2) and measured."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpgg_hf.cli.options import add_device, add_dtype, add_model, add_seed, new_command

if TYPE_CHECKING:
    import numpy as np

    from cpgg_hf.cine import Cine
    from cpgg_hf.measure import CineMeasurement

# End-diastolic volumes, from a small heart to a dilated one; the other phenotypes are sampled to match.
LVEDV_ML = (90.0, 110.0, 130.0, 150.0, 170.0, 195.0, 220.0, 250.0)
SHOWN = ("LVEDV", "LVESV", "LVEF", "RVEDV", "LAV_max")


def add_command(commands: Any) -> None:
    """Add `demo` to the commands."""
    command = new_command(commands, "demo", _run, "generate hearts of rising LV volume, measure and draw them")
    add_model(command)
    command.add_argument("--out", default="outputs/demo", help="folder to write (default: %(default)s)")
    add_seed(command)
    add_device(command)
    add_dtype(command)


def _run(arguments: argparse.Namespace) -> None:
    import numpy as np
    import torch

    from cpgg_hf.cli.models import checkpoint_path, load_pipeline, load_segmenter
    from cpgg_hf.data_policy import strictest
    from cpgg_hf.exports import write_cine
    from cpgg_hf.exports.gif import write_gif
    from cpgg_hf.files.policy_record import record_policy
    from cpgg_hf.files.staging import staged_folder
    from cpgg_hf.generation.generator import cines_of
    from cpgg_hf.measure import measure_cine

    model, out, count = arguments.model, arguments.out, len(LVEDV_ML)
    with staged_folder(out, overwrite=True) as folder:
        print(f"loading {checkpoint_path(model)}", file=sys.stderr)
        pipe = load_pipeline(model, arguments.device, arguments.dtype)
        segmenter = load_segmenter(None, model, device=arguments.device)

        print(f"generating {count} hearts with LVEDV from {LVEDV_ML[0]:g} to {LVEDV_ML[-1]:g} mL", file=sys.stderr)
        start = time.perf_counter()
        pipe.set_progress_bar_config(desc="decoding steps")
        generator = torch.Generator().manual_seed(arguments.seed)
        output = pipe([{"LVEDV": volume} for volume in LVEDV_ML], generator=generator)
        cines = cines_of(output)
        seconds = time.perf_counter() - start
        print(f"  {seconds:.1f} s, {seconds / count:.1f} s per heart", file=sys.stderr)

        print("measuring the generated cines", file=sys.stderr)
        measurements = [measure_cine(cine, segmenter) for cine in cines]
        requested = output.phenotypes.to_numpy()
        measured = np.stack([measurement.phenotypes for measurement in measurements])

        for index, cine in enumerate(cines, start=1):
            write_cine(folder / f"heart_{index}", cine)
        write_gif(folder / "hearts.gif", cines, columns=4)
        _draw_sheet(folder / "hearts.png", cines, measurements)
        _write_table(folder / "phenotypes.csv", output.seeds, requested, measured)
        record_policy(folder, strictest([pipe.data_policy, segmenter.config.data_policy]), folder.iterdir())

    print(controllability_sentences(requested, measured))
    print(f"wrote hearts.png, hearts.gif, phenotypes.csv and heart_1.nii.gz to heart_{count}.nii.gz to {out}")


def controllability_sentences(requested: np.ndarray, measured: np.ndarray, names: tuple[str, ...] = SHOWN) -> str:
    """Compare measured with requested phenotypes (N, 82), in one line per phenotype."""
    import numpy as np

    from cpgg_hf.phenotypes import PHENOTYPES, phenotype_index

    lines = []
    for name in names:
        index = phenotype_index(name)
        found = np.isfinite(measured[:, index])
        x, y, unit = requested[found, index], measured[found, index], PHENOTYPES[index].unit
        line = f"  {name:8s} measurable in {len(x)} of {len(found)} hearts"
        if len(x):
            line += f": requested {x.min():.0f} to {x.max():.0f} {unit}"
            line += f", measured {y.min():.0f} to {y.max():.0f} {unit}"
            line += f", bias {(y - x).mean():.1f} {unit}, RMSE {np.sqrt(((y - x) ** 2).mean()):.1f} {unit}"
        lines.append(line)
    return "\n".join(lines)


def _draw_sheet(path: Path, cines: list[Cine], measurements: list[CineMeasurement]) -> None:
    from cpgg_hf.exports.sheet import cine_sheet
    from cpgg_hf.phenotypes import PHENOTYPES, phenotype_index

    captions = []
    for cine, measurement in zip(cines, measurements, strict=True):
        lines = [f"{'':8s}{'requested':>10s}{'measured':>9s}"]
        for name in SHOWN:
            index = phenotype_index(name)
            measured = f"{measurement.phenotypes[index]:.0f}".replace("nan", "-")
            lines.append(f"{name:8s}{cine.phenotypes[index]:10.0f}{measured:>9s} {PHENOTYPES[index].unit}")  # type: ignore[index]
        captions.append("\n".join([*lines, f"heart rate {60000 / cine.rr_ms:.0f} bpm"]))
    # If no heart was found: systole usually ends after a third of the beat.
    frames = [
        len(cine) // 3 if one.end_systole is None else one.end_systole
        for cine, one in zip(cines, measurements, strict=True)
    ]
    cine_sheet(path, cines, captions, frames, title="Generated four-chamber cines, ordered by LVEDV")


def _write_table(path: Path, seeds: np.ndarray, requested: np.ndarray, measured: np.ndarray) -> None:
    """One row per heart and phenotype: heart, seed, phenotype, unit, requested, measured (empty: not measurable)."""
    import numpy as np
    import pandas as pd

    from cpgg_hf.phenotypes import NAMES, PHENOTYPES

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
