"""What a checkpoint reaches on held-out phantoms, measured in parts; each part writes one JSON.

    python benchmarks/checkpoint_quality.py measure    # the segmenter on true cines: the ceiling of every figure below
    python benchmarks/checkpoint_quality.py gate       # the VAE's reconstructions: PSNR, SSIM, R2 against the ceiling
    python benchmarks/checkpoint_quality.py adherence  # requested against measured phenotypes of generated cines
    python benchmarks/checkpoint_quality.py fidelity   # 1,000 generated against 1,000 true cines
    python benchmarks/checkpoint_quality.py sweep      # both, on fewer cines, over guidance scales and temperatures

Held-out subjects come from population seeds that no training used. One draw a subject, no retries.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from cpgg_hf import CPGGPipeline, phantom
from cpgg_hf.measure import measure_cines
from cpgg_hf.metrics import RandomFeatureNetwork, adherence, fidelity_report, psnr, ssim, to_plain
from cpgg_hf.phenotypes import heart_rate
from cpgg_hf.segmentation.segmenter import CineSegmenter

ADHERENCE_SEED = 777_000
FIDELITY_SEED = 888_000
TARGETS = ("LVEDV", "RVEDV", "LVEF", "LAV_max", "septal_wall")
REPORTED = ["r2", "r2_low", "r2_high", "rmse", "pearson_r", "slope", "bias", "shuffled_r2", "unit"]


def held_out(num_samples: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Phenotypes (N, 82), true cines (N, 50, 96, 96) uint8 and frame times (N,) of subjects no training saw."""
    phenotypes = phantom.sample_phenotypes(num_samples, seed)
    hearts = [phantom.render(row, seed + index) for index, row in enumerate(phenotypes)]
    return phenotypes, np.stack([h.cine.pixels for h in hearts]), np.array([h.cine.frame_time_ms for h in hearts])


def batches(count: int, size: int) -> Iterator[slice]:
    """Slices that cover `count` rows."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def as_uint8(cines: np.ndarray) -> np.ndarray:
    """Float cines in [0, 1] as they are stored: true cines are uint8, so generated ones are compared as uint8."""
    return np.rint(255 * np.clip(cines, 0, 1)).astype(np.uint8)


def generate(pipe: CPGGPipeline, phenotypes: np.ndarray, seed: int, **options: object) -> tuple[np.ndarray, float]:
    """One cine a row, uint8 (N, 50, 96, 96), and the seconds it took."""
    start = time.perf_counter()
    cines = []
    for part in batches(len(phenotypes), 40):
        generators = [torch.Generator().manual_seed(seed + index) for index in range(part.start, part.stop)]
        cines.append(as_uint8(pipe(phenotypes[part], generator=generators, **options).cines))
        print(f"  {part.stop} of {len(phenotypes)} cines, {time.perf_counter() - start:.0f} s", flush=True)
    return np.concatenate(cines), time.perf_counter() - start


def adherence_table(phenotypes: np.ndarray, cines: np.ndarray, segmenter: CineSegmenter) -> list[dict]:
    """Adherence of every measurable phenotype, requested against measured."""
    frame_times = 60000.0 / heart_rate(phenotypes) / cines.shape[1]
    measured = measure_cines(cines, spacing_mm=1.8, frame_time_ms=frame_times, segmenter=segmenter)
    table = adherence(phenotypes, measured)
    return to_plain(table[table["measurable"] & (table["num_cines"] > 0)][REPORTED].round(4))


def run_measure(arguments: argparse.Namespace) -> dict:
    """The measure on true cines."""
    phenotypes, cines, _ = held_out(arguments.num_samples or 200, ADHERENCE_SEED)
    return {"num_cines": len(cines), "adherence": adherence_table(phenotypes, cines, arguments.segmenter)}


def run_gate(arguments: argparse.Namespace) -> dict:
    """The VAE's reconstructions of true cines."""
    phenotypes, cines, _ = held_out(arguments.num_samples or 200, ADHERENCE_SEED)
    vae = arguments.pipe.vae
    reconstructions = []
    with torch.no_grad():
        for part in batches(len(cines), 8):
            network_input = torch.from_numpy(cines[part]).float()[:, None] / 127.5 - 1
            reconstructed = vae.decode(vae.encode(network_input).latent_dist.mode()).sample
            reconstructions.append(as_uint8(reconstructed[:, 0].numpy() / 2 + 0.5))
    reconstructions = np.concatenate(reconstructions)
    return {
        "num_cines": len(cines),
        "psnr_db": round(float(psnr(reconstructions, cines).mean()), 2),
        "ssim": round(float(ssim(reconstructions, cines).mean()), 4),
        "adherence": adherence_table(phenotypes, reconstructions, arguments.segmenter),
    }


def run_adherence(arguments: argparse.Namespace) -> dict:
    """Generated cines for held-out phenotypes."""
    phenotypes = phantom.sample_phenotypes(arguments.num_samples or 200, ADHERENCE_SEED)
    cines, seconds = generate(arguments.pipe, phenotypes, ADHERENCE_SEED)
    np.save(arguments.out / "adherence_cines.npy", cines)
    table = adherence_table(phenotypes, cines, arguments.segmenter)
    return {"num_cines": len(cines), "seconds_per_cine": round(seconds / len(cines), 3), "adherence": table}


def run_fidelity(arguments: argparse.Namespace) -> dict:
    """Generated cines for fresh phenotypes of the population, against true cines of other subjects."""
    num_samples = arguments.num_samples or 1000
    _, true, _ = held_out(2 * num_samples, FIDELITY_SEED)
    phenotypes = phantom.sample_phenotypes(num_samples, FIDELITY_SEED + 500_000)
    generated, seconds = generate(arguments.pipe, phenotypes, FIDELITY_SEED)
    np.save(arguments.out / "fidelity_cines.npy", generated)
    report = fidelity_report(generated, true, RandomFeatureNetwork())
    return {"num_cines": num_samples, "seconds_per_cine": round(seconds / num_samples, 3), **to_plain(report)}


def run_sweep(arguments: argparse.Namespace) -> dict:
    """Adherence and fidelity over guidance scales, then over temperatures; few cines, so rough."""
    phenotypes = phantom.sample_phenotypes(arguments.num_samples or 100, ADHERENCE_SEED)
    settings = [{"guidance_scale": scale} for scale in (1.0, 1.5, 1.75, 2.0, 3.0)]
    default = arguments.pipe.config.guidance_scale
    settings += [{"guidance_scale": default, "temperature": temperature} for temperature in (0.9, 0.8)]
    _, true, _ = held_out(2 * len(phenotypes), FIDELITY_SEED)
    network = RandomFeatureNetwork()
    results = []
    for options in settings:
        cines, _ = generate(arguments.pipe, phenotypes, ADHERENCE_SEED, **options)
        table = adherence_table(phenotypes, cines, arguments.segmenter)
        r2 = {row["phenotype"]: row["r2"] for row in table}
        report = fidelity_report(cines, true, network)
        figures = {
            "frechet_ratio": round(report.frechet.ratio, 2),
            "precision": round(report.precision_recall.precision, 3),
            "recall": round(report.precision_recall.recall, 3),
            "share_within_true_range": report.statistics["share"].round(3).to_dict(),
        }
        results.append({**options, **figures, "r2": r2})
        print(options, figures, {name: r2[name] for name in TARGETS}, flush=True)
    return {"num_cines": len(phenotypes), "sweep": results}


PARTS: dict[str, Callable[[argparse.Namespace], dict]] = {
    "measure": run_measure,
    "gate": run_gate,
    "adherence": run_adherence,
    "fidelity": run_fidelity,
    "sweep": run_sweep,
}


def main() -> None:
    """Runs one part and writes its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--model", type=Path, default=Path("checkpoints/cpgg-phantom-small"))
    parser.add_argument("--out", type=Path, default=Path("outputs/quality"))
    parser.add_argument("--num-samples", type=int)
    parser.add_argument("--micro-batch-size", type=int, default=8, help="samples that the MAR works on at once")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    arguments.segmenter = CineSegmenter.from_pretrained(arguments.model / "segmenter")
    if arguments.part != "measure":
        arguments.pipe = CPGGPipeline.from_pretrained(arguments.model)
        arguments.pipe.register_to_config(micro_batch_size=arguments.micro_batch_size)
        arguments.pipe.set_progress_bar_config(disable=True)
    result = {
        **PARTS[arguments.part](arguments),
        "model": arguments.model.name,
        "machine": f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads",
    }
    path = arguments.out / f"{arguments.part}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
