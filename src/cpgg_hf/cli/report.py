"""`cpgg report`: a real cine, its VAE reconstruction, and a cine generated from the subject's phenotypes."""

import argparse
import json
from typing import Any

from cpgg_hf.cli.options import add_json, add_model, add_reading, add_seed, new_command, reading_of
from cpgg_hf.cli.printing import print_json, print_notes
from cpgg_hf.errors import RequestError

_NO_EVIDENCE = "A generated cine and the measurements are not medical evidence about the subject."
_PHANTOM_NOTE = (
    "The models were trained on synthetic phantoms only, not on real hearts: neither the reconstruction nor the "
    "measurement of the real cine is evidence about the subject."
)


def add_command(commands: Any) -> None:
    """Add `report` to the commands."""
    text = "compare a real cine with one generated from the subject's phenotypes"
    command = new_command(commands, "report", _run, text)
    command.add_argument("input", help="NIfTI file or DICOM folder of a four-chamber cine")
    command.add_argument("--phenotypes", required=True, help="CSV or JSON file with the subject's known phenotypes")
    add_model(command)
    command.add_argument("--out", required=True, help="folder to write; outputs contain images of the subject")
    add_reading(command)
    add_seed(command)
    add_json(command, "report")


def _run(arguments: argparse.Namespace) -> None:
    paths = (arguments.input, arguments.phenotypes, arguments.out)
    result = report(*paths, arguments.model, arguments.seed, **reading_of(arguments))
    if arguments.json:
        print_json(result)
        return
    print_notes(result["warnings"])
    quality = result["vae_reconstruction"]
    print(f"the VAE's reconstruction of the real cine: PSNR {quality['psnr_db']:.1f} dB, SSIM {quality['ssim']:.3f}")
    columns = ("known", "measured_real", "completed", "measured_generated")
    print(f"{'':12s}{'':>8s}{'the subject':>20s}{'generated cine':>20s}")
    print(f"{'':12s}{'unit':>8s}{'known':>10s}{'measured':>10s}{'requested':>10s}{'measured':>10s}")
    for row in result["phenotypes"]:
        cells = [row[column] for column in columns]
        if cells.count(None) < 3:  # more than the request
            line = f"{row['phenotype']:12s}{row['unit']:>8s}"
            line += "".join(f"{'-' if cell is None else format(cell, '.1f'):>10s}" for cell in cells)
            print(line + ("   known and measured differ" if row["differs"] else ""))
    print(result["note"])
    print(f"wrote {arguments.out}")


def report(
    source: str, request: str, out: str, model: str | None = None, seed: int = 0, **reading: Any
) -> dict[str, Any]:
    """Compare a subject's real cine with one generated from the subject's completed partial phenotypes.

    Writes `report.png` (three rows: the subject's, reconstructed, generated), `report.gif` with the LV's volumes
    beside them, the segmentation of the subject's cine (`overlay.png`, `overlay.gif`), and `report.json`.

    Args:
        source: a DICOM folder or a NIfTI file of one four-chamber cine.
        request: CSV or JSON file with the subject's known phenotypes, one row.
        out: a new or empty folder. It will contain images of the subject.
        model: a checkpoint with the segmenters; None is the shipped one.
        seed: seed of the completed phenotypes and the generated cine.
        reading: `view`, `segmenter`, `mask`, `rr_ms` and `series` of `read_and_measure`.

    Returns:
        The content of `report.json`.

    Raises:
        CPGGError: a file, request, model or output folder that cannot be used; nothing is written.
    """
    import torch

    from cpgg_hf.cli.cines import read_and_measure
    from cpgg_hf.cli.models import checkpoint_path, load_pipeline, load_segmenter
    from cpgg_hf.cli.requests import read_request
    from cpgg_hf.data_policy import UNKNOWN_POLICY
    from cpgg_hf.exports.overlay import as_pictures, kind_of, write_overlay
    from cpgg_hf.exports.page import Page
    from cpgg_hf.exports.sheet import side_by_side
    from cpgg_hf.files.policy_record import recorded
    from cpgg_hf.files.staging import staged_folder
    from cpgg_hf.generation.generator import cines_of
    from cpgg_hf.measure import measure_cine
    from cpgg_hf.measure.plausibility import disagreements, plausible
    from cpgg_hf.metrics import psnr, ssim, to_plain
    from cpgg_hf.models.reconstruction import reconstruct
    from cpgg_hf.phenotypes import PHENOTYPES

    known = read_request(request, [])
    if known is None or len(known) != 1:
        raise RequestError(f"{request} has {0 if known is None else len(known)} rows; expected one, the subject's.")
    read = read_and_measure(source, model=model, upright=True, **reading)
    real, of_real = read.cine, read.measurement
    with staged_folder(out) as folder, recorded(folder, UNKNOWN_POLICY):
        pipe = load_pipeline(model)
        output = pipe(known, generator=torch.Generator().manual_seed(seed))
        (generated,), completed = cines_of(output), output.phenotypes.to_numpy()[0]
        reconstruction = reconstruct(pipe.vae, real)
        of_generated = plausible(measure_cine(generated, load_segmenter(None, model)))
        differ = disagreements(known[0], of_real.phenotypes)
        values = (known[0], completed, of_real.phenotypes, of_generated.phenotypes)
        columns = ("known", "completed", "measured_real", "measured_generated")
        result = {
            "model": checkpoint_path(model),
            "seed": seed,
            "warnings": [
                *read.warnings,
                *differ.values(),
                *(f"the generated cine: {note}" for note in of_generated.notes),
            ],
            "vae_reconstruction": {
                "psnr_db": float(psnr([reconstruction.pixels], [real.pixels])[0]),
                "ssim": float(ssim([reconstruction.pixels], [real.pixels])[0]),
            },
            "phenotypes": [
                {"phenotype": phenotype.short_name, "unit": phenotype.unit, "measurable": phenotype.measurable}
                | dict(zip(columns, row, strict=True))
                | {"differs": phenotype.short_name in differ}
                for phenotype, *row in zip(PHENOTYPES, *values, strict=True)
            ],
            "note": _PHANTOM_NOTE if pipe.data_policy == "phantom" else _NO_EVIDENCE,
        }
        # All beat together, at the real heart's rate.
        cines = [real, reconstruction, real.with_pixels(generated.pixels)]
        kind = kind_of(real)
        names = [f"input ({kind})", f"VAE reconstruction ({kind})", "generated (synthetic)"]
        title = f"Input, reconstruction, and a cine generated from the same phenotypes: {real.pixel_size_mm:.3g} mm "
        title += f"pixels, RR interval {real.rr_ms:.0f} ms"
        side_by_side(folder / "report.png", cines, names, title)
        measured = {"LV, input": of_real, "LV, generated": of_generated}
        curves = {name: one.volumes_ml["LV"] for name, one in measured.items() if "LV" in one.volumes_ml}
        page = Page(title, names, curves, real.frame_time_ms)
        page.write_film(folder / "report.gif", [as_pictures(cine) for cine in cines])
        write_overlay(folder, real, read.probabilities, of_real.volumes_ml, of_real.end_systole)
        plain: dict[str, Any] = to_plain(result)
        (folder / "report.json").write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    return plain
