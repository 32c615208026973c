"""`cpgg sample-phenotypes` and `cpgg generate`: phenotypes as a table, cines as files, a seed a sample."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cpgg_hf.cli.models import checkpoint_path, load_pipeline
from cpgg_hf.cli.requests import check_drawn, read_request
from cpgg_hf.files.staging import staged_file, staged_folder
from cpgg_hf.phenotypes import NAMES, write_csv

FORMATS = ("nifti", "gif", "webp", "mp4", "npz", "dicom")


def sample_phenotypes(
    model: str | None, request: str | None, assignments: list[tuple[str, float]], num_samples: int, seed: int, out: str
) -> int:
    """Writes sampled phenotypes as CSV, `num_samples` for each row of the request; returns how many rows.

    They are the ones that `generate` with the same arguments generates cines from.
    """
    import torch

    requested = read_request(request, assignments)
    with staged_file(out) as path:
        pipe = load_pipeline(model)
        sampled = pipe.sample_phenotypes(requested, num_samples, torch.Generator().manual_seed(seed))
        check_drawn(sampled.to_numpy())
        write_csv(sampled, path)
    return len(sampled)


def generate(
    model: str | None,
    request: str | None,
    assignments: list[tuple[str, float]],
    num_samples: int,
    seed: int,
    out: str,
    formats: Sequence[str] = ("nifti",),
    batch_size: int = 8,
    **settings: Any,
) -> int:
    """Writes generated cines and what they were conditioned on; returns how many.

    The folder holds `phenotypes.csv` (one row a cine), `generation.json` (settings; seed, spacing and frame time of
    each cine), and the cines as `cine_00000.nii.gz`, `.gif`, `.webp`, `.mp4`, `.npz` or the folder `cine_00000_dicom`.

    Args:
        model: folder or hub repository; None is the shipped one.
        request: CSV or JSON file, see `read_request`.
        assignments: `--set`.
        num_samples: cines for each row of the request.
        seed: all cines' seeds are drawn from it.
        out: the folder; must be new or empty.
        formats: among `FORMATS`.
        batch_size: cines in memory at once; it changes no byte of them.
        settings: of the pipeline's call, such as `guidance_scale`; None = the pipeline's default.
    """
    import torch

    from cpgg_hf.pipeline_cpgg import draw_seeds

    requested = read_request(request, assignments)
    rows = np.full((1, len(NAMES)), np.nan) if requested is None else requested
    rows = np.repeat(rows, num_samples, axis=0)
    seeds = draw_seeds(len(rows), torch.Generator().manual_seed(seed))
    with staged_folder(out) as folder:
        pipe = load_pipeline(model)
        records: list[dict[str, Any]] = []
        conditions = []
        for start in range(0, len(rows), batch_size):
            batch = slice(start, start + batch_size)
            generators = [torch.Generator().manual_seed(one) for one in seeds[batch]]
            output = pipe(rows[batch], generator=generators, **settings)
            conditions.append(output.phenotypes.to_numpy())
            check_drawn(conditions[-1])
            for cine, own_seed, frame_time_ms, condition in zip(
                output.cines, output.seeds, output.frame_time_ms, conditions[-1], strict=True
            ):
                name = f"cine_{len(records):05d}"
                write_cine(
                    folder / name,
                    cine,
                    float(frame_time_ms),
                    output.spacing_mm,
                    formats,
                    phenotypes=condition,
                    seed=int(own_seed),
                )
                records.append(
                    {
                        "name": name,
                        "seed": int(own_seed),
                        "spacing_mm": output.spacing_mm,
                        "frame_time_ms": float(frame_time_ms),
                    }
                )
        write_csv(np.concatenate(conditions), folder / "phenotypes.csv")
        description = {
            "model": checkpoint_path(model),
            "data_policy": pipe.data_policy,
            "seed": seed,
            "settings": settings,
            "cines": records,
        }
        (folder / "generation.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return len(records)


def write_cine(
    stem: Path,
    cine: np.ndarray,
    frame_time_ms: float,
    spacing_mm: float,
    formats: Sequence[str] = ("nifti",),
    *,
    phenotypes: np.ndarray | None = None,
    seed: int | None = None,
) -> None:
    """Writes one synthetic cine (T, H, W) in [0, 1] in each of the `FORMATS` named.

    Args:
        stem: `<stem>.nii.gz`, `.gif`, `.webp`, `.mp4`, `.npz` and the folder `<stem>_dicom` are written.
        cine: uint8, or float in [0, 1].
        frame_time_ms: time from one frame to the next.
        spacing_mm: pixel size.
        formats: among `FORMATS`.
        phenotypes: (82,) what it was conditioned on, for npz.
        seed: what it was drawn from, for npz and for DICOM's identifiers.
    """
    if "nifti" in formats:
        from cpgg_hf.scans.nifti import write_nifti

        write_nifti(f"{stem}.nii.gz", cine, frame_time_ms, spacing_mm, description="generated by cpgg_hf")
    if "gif" in formats:
        from cpgg_hf.exports.gif import write_gif

        write_gif(f"{stem}.gif", cine, frame_time_ms)
    if "webp" in formats:
        from cpgg_hf.exports.gif import write_webp

        write_webp(f"{stem}.webp", cine, frame_time_ms)
    if "mp4" in formats:
        from cpgg_hf.exports.mp4 import write_mp4

        write_mp4(f"{stem}.mp4", cine, frame_time_ms)
    if "npz" in formats:
        from cpgg_hf.exports.npz import write_npz

        write_npz(f"{stem}.npz", cine, frame_time_ms, spacing_mm, phenotypes=phenotypes, seed=seed)
    if "dicom" in formats:
        from cpgg_hf.exports.dicom import write_dicom_series

        write_dicom_series(f"{stem}_dicom", cine, frame_time_ms, spacing_mm, seed=seed)
