"""Measured results of a checkpoint: the JSON of `benchmarks/checkpoint_quality.py` as tables and metadata."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from cpgg_hf.release.checkpoint_description import read_object

_PARTS = ("controllability", "gate", "measure", "fidelity", "sweep")
_SHOWN = {
    **{name: name for name in ("LVEDV", "LVEF", "RVEDV", "RVEF", "LAV_max", "RAV_max", "Ell_Global")},
    "septal_wall": "septal wall (mean of WT_AHA_3, 9, 14)",
    "lateral_wall": "lateral wall (mean of WT_AHA_6, 12, 16)",
    "DAo_max_area": "descending aorta, largest area",
}
_SWEPT = ("LVEDV", "LVEF", "septal_wall")
_STATISTICS = {
    "gradient_energy": "gradient energy",
    "frame_jitter": "frame-to-frame jitter",
    "spatial_face_jump": "jump across token faces in the plane",
    "temporal_face_jump": "jump across token faces in time",
}
_LOSS = 0.02  # of R2, above which a reconstruction is said to lose a phenotype


def read_results(folder: Path | None) -> dict[str, dict[str, Any]]:
    """The parts that were measured, by name; none without a folder."""
    if folder is None:
        return {}
    found = {part: read_object(folder / f"{part}.json") for part in _PARTS}
    return {part: content for part, content in found.items() if content}


def controllability_rows(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """The chosen phenotypes as requested and as measured in generated cines, beside the two ceilings."""
    ceilings = {part: _by_phenotype(results.get(part, {})) for part in ("gate", "measure")}
    rows = []
    for name, row in _by_phenotype(results.get("controllability", {})).items():
        if name in _SHOWN:
            rows.append(
                {
                    "phenotype": _SHOWN[name],
                    "r2": f"{row['r2']:.3f} ({row['r2_low']:.3f} to {row['r2_high']:.3f})",
                    "rmse": f"{row['rmse']:.3g} {row['unit']}",
                    "shuffled": f"{row['shuffled_r2']:.1f}",
                    **{part: f"{table[name]['r2']:.3f}" if name in table else "" for part, table in ceilings.items()},
                }
            )
    return sorted(rows, key=lambda row: list(_SHOWN.values()).index(row["phenotype"]))


def reconstruction_losses(results: Mapping[str, Any]) -> tuple[int, list[str]]:
    """How many phenotypes were measured in reconstructions, and those whose R2 is lower by more than 0.02."""
    gate, measure = (_by_phenotype(results.get(part, {})) for part in ("gate", "measure"))
    changes = {name: row["r2"] - measure[name]["r2"] for name, row in gate.items() if name in measure}
    return len(changes), [f"{name} ({change:+.3f})" for name, change in changes.items() if change < -_LOSS]


def fidelity_rows(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(figure, generated, reference against reference)."""
    fidelity = results.get("fidelity")
    if not fidelity:
        return []
    frechet, generated, reference = (
        fidelity[key] for key in ("frechet", "precision_recall", "reference_precision_recall")
    )
    distance = f"{frechet['distance']:.3f}"
    rows = [("Frechet distance", distance, f"{frechet['floor']:.3f} (ratio {frechet['ratio']:.1f})")]
    shares, reference_shares = (f"{one['precision']:.2f}, {one['recall']:.2f}" for one in (generated, reference))
    rows.append(("precision, recall", shares, reference_shares))
    for row in fidelity["statistics"]:
        name = _STATISTICS.get(row["statistic"], row["statistic"])
        rows.append((f"within the reference cines' 5th to 95th percentile: {name}", f"{row['share']:.0%}", "90%"))
    return rows


def sweep_rows(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """One row per setting of the guidance scale and temperature."""
    return [
        {
            "guidance_scale": f"{row['guidance_scale']:g}",
            "temperature": f"{row.get('temperature', 1.0):g}",
            **{name: f"{row['r2'][name]:.3f}" for name in _SWEPT},
            "frechet_ratio": f"{row['frechet_ratio']:.2f}",
            "precision_recall": f"{row['precision']:.2f}, {row['recall']:.2f}",
            "shares": ", ".join(f"{row['share_within_reference_range'][name]:.0%}" for name in _STATISTICS),
        }
        for row in results.get("sweep", {}).get("sweep", [])
    ]


def evaluation_results(results: Mapping[str, Any], data: str) -> list[EvalResult]:
    """The same for the card's metadata: R2 of each measurable phenotype, fidelity, reconstruction.

    Args:
        results: from `read_results`.
        data: the data of the evaluation.
    """
    found: list[tuple[str, str, str, float]] = []  # task, metric's type, its name, value
    for name, row in _by_phenotype(results.get("controllability", {})).items():
        found.append(
            ("phenotype-controlled cine generation", "r2", f"R2 of {name}, requested and measured", row["r2"])
        )
    if fidelity := results.get("fidelity"):
        task = "cine generation"
        found.append((task, "frechet_distance", "Frechet distance (random features)", fidelity["frechet"]["distance"]))
        found.append((task, "frechet_ratio", "Frechet distance over its floor", fidelity["frechet"]["ratio"]))
        found += [(task, key, key, fidelity["precision_recall"][key]) for key in ("precision", "recall")]
    if gate := results.get("gate"):
        task = "cine reconstruction"
        found += [(task, key, name, gate[key]) for key, name in (("psnr_db", "PSNR"), ("ssim", "SSIM"))]
    return [
        EvalResult(
            task_type=task.replace(" ", "-"),
            task_name=task,
            dataset_type="phantom" if "phantom" in data else "cine",
            dataset_name=data,
            metric_type=metric_type,
            metric_name=name,
            metric_value=round(value, 4),
        )
        for task, metric_type, name, value in found
    ]


def machines(results: Mapping[str, Any]) -> str:
    """Machines that the figures were measured on."""
    return "; ".join(sorted({content["machine"] for content in results.values() if "machine" in content}))


def _by_phenotype(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    rows: Sequence[Mapping[str, Any]] = content.get("controllability", [])
    return {row["phenotype"]: row for row in rows}
