"""`cpgg report`: a real cine, what the VAE makes of it, and a generated heart of the subject's phenotypes."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from cpgg_hf.cli.cines import read_series
from cpgg_hf.cli.models import checkpoint_path, load_pipeline, load_segmenter, segmenter_path
from cpgg_hf.cli.requests import read_request
from cpgg_hf.errors import RequestError
from cpgg_hf.files.staging import staged_folder
from cpgg_hf.phenotypes import NAMES

NOTE = (
    "The models were trained on phantoms alone and have never seen a real heart: neither the reconstruction nor the "
    "measurement of the real cine is evidence about the subject."
)

if TYPE_CHECKING:
    from cpgg_hf.measure.formulas import CineMeasurement
    from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
    from cpgg_hf.preparation.grid.prepare import PreparedScan


def report(
    source: str, request: str, out: str, model: str | None = None, view: str = "4ch", seed: int = 0
) -> dict[str, Any]:
    """Compares a subject's real cine with one generated from the subject's completed partial phenotypes.

    Writes `report.png` (three rows: real, reconstructed, generated), `report.gif` and `report.json`.

    Args:
        source: a DICOM folder or a NIfTI file of one four-chamber cine.
        request: CSV or JSON file with what is known of the subject's phenotypes, one row.
        out: the folder; must be new or empty. It holds pictures of the subject.
        model: a checkpoint with the folders `segmenter` and `field_segmenter`; None is the shipped one.
        view: "4ch", or "any" to take every plane.
        seed: of the completion and of the generated cine.

    Returns:
        What `report.json` holds.
    """
    import torch

    from cpgg_hf.exports.gif import write_gif
    from cpgg_hf.exports.sheet import side_by_side
    from cpgg_hf.measure import measure_cine
    from cpgg_hf.metrics import psnr, ssim, to_plain

    known = read_request(request, [])
    if known is None or len(known) != 1:
        raise RequestError(f"{request} holds {0 if known is None else len(known)} rows; expected one, the subject's.")
    prepared, warnings = read_real_cine(source, view, segmenter_path(None, model, scans=True))
    with staged_folder(out) as folder:
        pipe = load_pipeline(model)
        output = pipe(known, generator=torch.Generator().manual_seed(seed))
        real, generated = prepared.cine.pixels, output.cines[0]
        reconstruction = reconstruct(pipe.vae, real)
        segmenter, frame_time_ms = load_segmenter(None, model), float(output.frame_time_ms[0])
        measured = {
            "real": measure_prepared(prepared).phenotypes,
            "generated": measure_cine(generated, output.spacing_mm, frame_time_ms, segmenter).phenotypes,
        }
        result = {
            "model": checkpoint_path(model),
            "seed": seed,
            "warnings": list(warnings),
            "vae_reconstruction": {
                "psnr_db": float(psnr([reconstruction], [real])[0]),
                "ssim": float(ssim([reconstruction], [real])[0]),
            },
            "phenotypes": phenotype_rows(known[0], output.phenotypes.to_numpy()[0], measured),
            "note": NOTE,
        }
        rows = {"real": real, "VAE of real": reconstruction, "generated": generated}
        side_by_side(list(rows.values()), list(rows), folder / "report.png")
        write_gif(folder / "report.gif", list(rows.values()), prepared.cine.frame_time_ms, columns=3)
        content = json.dumps(to_plain(result), indent=2) + "\n"
        (folder / "report.json").write_text(content, encoding="utf-8")
    return to_plain(result)


def read_real_cine(source: str, view: str, segmenter: str) -> "tuple[PreparedScan, tuple[str, ...]]":
    """A DICOM folder or NIfTI file, checked for its view, turned as phantoms are drawn, and brought onto the grid."""
    from cpgg_hf.preparation.grid.prepare import to_display_orientation
    from cpgg_hf.preparation.one_scan import find_and_prepare

    series, notes = read_series(source, view)
    prepared = find_and_prepare(to_display_orientation(series), view, segmenter, None, with_probabilities=True)
    return prepared, (*notes, *prepared.cine.warnings)


def measure_prepared(prepared: "PreparedScan") -> "CineMeasurement":
    """What the segmentation of a scan's whole field shows."""
    import torch

    from cpgg_hf.measure.formulas import measure_labels

    cine = prepared.cine
    return measure_labels(torch.from_numpy(prepared.probabilities), cine.pixel_size_mm, cine.frame_time_ms)


def reconstruct(vae: "AutoencoderKLCPGG", cine: np.ndarray) -> np.ndarray:
    """A cine (T, H, W) in [0, 1], encoded to the posterior's mean and decoded again: the same shape and range."""
    import torch

    with torch.no_grad():
        sample = torch.from_numpy(cine).to(vae.device, vae.dtype)[None, None] * 2 - 1
        decoded = vae(sample).sample[0, 0].float().cpu().numpy()
    return ((decoded + 1) / 2).clip(0, 1)


def phenotype_rows(known: np.ndarray, completed: np.ndarray, measured: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """One record a phenotype: what was known, what the phenotype VAE completed, what each cine shows."""
    return [
        {
            "phenotype": name,
            "known": known[index],
            "completed": completed[index],
            **{f"measured_{which}": values[index] for which, values in measured.items()},
        }
        for index, name in enumerate(NAMES)
    ]
