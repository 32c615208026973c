"""`cpgg report`: a real cine, its VAE reconstruction, and a cine generated from the subject's phenotypes."""

import argparse
import json
from typing import Any

from cpgg_hf.cli.options import add_json, add_model, add_seed, add_view, new_command
from cpgg_hf.cli.printing import print_json, print_notes
from cpgg_hf.errors import RequestError

NOTE = (
    "The models were trained on synthetic phantoms only and have never seen a real heart: neither the reconstruction "
    "nor the measurement of the real cine is evidence about the subject."
)


def add_command(commands: Any) -> None:
    """Add `report` to the commands."""
    text = "compare a real cine with one generated from the subject's phenotypes"
    command = new_command(commands, "report", _run, text)
    command.add_argument("input", help="NIfTI file or DICOM folder of a four-chamber cine")
    command.add_argument("--phenotypes", required=True, help="CSV or JSON file with the subject's known phenotypes")
    add_model(command)
    command.add_argument("--out", required=True, help="folder to write; outputs contain images of the subject")
    add_view(command)
    add_seed(command)
    add_json(command, "report")


def _run(arguments: argparse.Namespace) -> None:
    result = report(
        arguments.input, arguments.phenotypes, arguments.out, arguments.model, arguments.view, arguments.seed
    )
    if arguments.json:
        print_json(result)
        return
    print_notes(result["warnings"])
    quality = result["vae_reconstruction"]
    print(f"the VAE's reconstruction of the real cine: PSNR {quality['psnr_db']:.1f} dB, SSIM {quality['ssim']:.3f}")
    print(f"{'':12s}{'known':>10s}{'completed':>10s}{'real':>10s}{'generated':>10s}   (the last two: measured)")
    for row in result["phenotypes"]:
        cells = (row["known"], row["completed"], row["measured_real"], row["measured_generated"])
        if cells[2:] != (None, None):
            print(f"{row['phenotype']:12s}" + "".join(f"{'' if x is None else format(x, '.1f'):>10s}" for x in cells))
    print(result["note"])
    print(f"wrote {arguments.out}")


def report(
    source: str, request: str, out: str, model: str | None = None, view: str = "4ch", seed: int = 0
) -> dict[str, Any]:
    """Compare a subject's real cine with one generated from the subject's completed partial phenotypes.

    Writes `report.png` (three rows: real, reconstructed, generated), `report.gif` and `report.json`.

    Args:
        source: a DICOM folder or a NIfTI file of one four-chamber cine.
        request: CSV or JSON file with the subject's known phenotypes, one row.
        out: a new or empty folder. It will contain images of the subject.
        model: a checkpoint with the segmenters; None is the shipped one.
        view: "4ch", or "any" to take every plane.
        seed: of the completed phenotypes and the generated cine.

    Returns:
        The content of `report.json`.
    """
    import torch

    from cpgg_hf.cine import cines_of
    from cpgg_hf.cli.cines import read_view
    from cpgg_hf.cli.measure import measure_probabilities
    from cpgg_hf.cli.models import checkpoint_path, load_pipeline, load_segmenter, segmenter_path
    from cpgg_hf.cli.requests import read_request
    from cpgg_hf.data_policy import UNKNOWN_POLICY
    from cpgg_hf.exports.gif import write_gif
    from cpgg_hf.exports.sheet import side_by_side
    from cpgg_hf.files.policy_record import recorded
    from cpgg_hf.files.staging import staged_folder
    from cpgg_hf.measure import measure_cine
    from cpgg_hf.metrics import psnr, ssim, to_plain
    from cpgg_hf.models.reconstruction import reconstruct
    from cpgg_hf.phenotypes import NAMES
    from cpgg_hf.preparation.grid.prepare import to_display_orientation
    from cpgg_hf.preparation.one_scan import find_and_prepare

    known = read_request(request, [])
    if known is None or len(known) != 1:
        raise RequestError(f"{request} has {0 if known is None else len(known)} rows; expected one, the subject's.")
    scan, notes = read_view(source, view)
    finder = segmenter_path(None, model, scans=True)
    prepared = find_and_prepare(to_display_orientation(scan), view, finder, None, with_probabilities=True)
    real = prepared.cine
    with staged_folder(out) as folder, recorded(folder, UNKNOWN_POLICY):
        pipe = load_pipeline(model)
        output = pipe(known, generator=torch.Generator().manual_seed(seed))
        (generated,), completed = cines_of(output), output.phenotypes.to_numpy()[0]
        reconstruction = reconstruct(pipe.vae, real)
        measured_real = measure_probabilities(real, prepared.probabilities).phenotypes
        measured_generated = measure_cine(generated, load_segmenter(None, model)).phenotypes
        rows = zip(NAMES, known[0], completed, measured_real, measured_generated, strict=True)
        columns = ("phenotype", "known", "completed", "measured_real", "measured_generated")
        result = {
            "model": checkpoint_path(model),
            "seed": seed,
            "warnings": [*notes, *real.warnings],
            "vae_reconstruction": {
                "psnr_db": float(psnr([reconstruction.pixels], [real.pixels])[0]),
                "ssim": float(ssim([reconstruction.pixels], [real.pixels])[0]),
            },
            "phenotypes": [dict(zip(columns, row, strict=True)) for row in rows],
            "note": NOTE,
        }
        # All beat together, at the real heart's rate.
        cines = [real, reconstruction, real.with_pixels(generated.pixels)]
        side_by_side(folder / "report.png", cines, ["real", "reconstruction of real", "generated"])
        write_gif(folder / "report.gif", cines, columns=3)
        plain: dict[str, Any] = to_plain(result)
        (folder / "report.json").write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    return plain
