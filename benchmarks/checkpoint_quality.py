"""Quality of a checkpoint on held-out phantoms, measured in parts; each part writes one JSON.

    python benchmarks/checkpoint_quality.py measure          # measurement ceiling: the segmenter on reference cines
    python benchmarks/checkpoint_quality.py gate             # the VAE's reconstructions: PSNR, SSIM, R2
    python benchmarks/checkpoint_quality.py controllability  # requested against measured phenotypes
    python benchmarks/checkpoint_quality.py fidelity         # 1,000 generated against 1,000 reference cines
    python benchmarks/checkpoint_quality.py sweep            # both, over guidance scales and temperatures

Held-out subjects come from population seeds that no training used. One cine per subject, no retries.
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
from cpgg_hf.cine import Cine, from_network, to_network
from cpgg_hf.grid import NUM_FRAMES
from cpgg_hf.measure import measure_cines
from cpgg_hf.metrics import RandomFeatureNetwork, controllability, fidelity_report, psnr, ssim, to_plain
from cpgg_hf.phenotypes import heart_rate
from cpgg_hf.segmentation.segmenter import CineSegmenter

CONTROLLABILITY_SEED = 777_000
FIDELITY_SEED = 888_000
TARGETS = ("LVEDV", "RVEDV", "LVEF", "LAV_max", "septal_wall")
REPORTED = ["r2", "r2_low", "r2_high", "rmse", "pearson_r", "slope", "bias", "shuffled_r2", "unit"]


def held_out(num_samples: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Phenotypes (N, 82), reference cines (N, 50, 96, 96) uint8 and frame times (N,) of subjects no training saw."""
    phenotypes = phantom.sample_phenotypes(num_samples, seed)
    hearts = [phantom.render(row, seed + index) for index, row in enumerate(phenotypes)]
    return phenotypes, np.stack([h.cine.pixels for h in hearts]), np.array([h.cine.frame_time_ms for h in hearts])


def batches(count: int, size: int) -> Iterator[slice]:
    """Slices that cover `count` rows."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def as_uint8(cines: np.ndarray) -> np.ndarray:
    """Float cines (N, T, H, W) in [0, 1] as uint8, since reference cines are uint8."""
    return np.stack([Cine(pixels=pixels, frame_time_ms=1.0).uint8 for pixels in cines])


def generate(pipe: CPGGPipeline, phenotypes: np.ndarray, seed: int, **options: object) -> tuple[np.ndarray, float]:
    """One cine per row, uint8 (N, 50, 96, 96), and the seconds it took."""
    start = time.perf_counter()
    cines = []
    for part in batches(len(phenotypes), 40):
        generators = [torch.Generator().manual_seed(seed + index) for index in range(part.start, part.stop)]
        cines.append(as_uint8(pipe(phenotypes[part], generator=generators, **options).cines))
        print(f"  {part.stop} of {len(phenotypes)} cines, {time.perf_counter() - start:.0f} s", flush=True)
    return np.concatenate(cines), time.perf_counter() - start


@torch.no_grad()
def reconstruct(vae: torch.nn.Module, cines: np.ndarray) -> np.ndarray:
    """Cines (N, T, H, W) uint8 through encoder and decoder."""
    latents = vae.encode(to_network(torch.from_numpy(cines))).latent_dist.mode()
    return as_uint8(from_network(vae.decode(latents).sample).numpy())


def controllability_table(phenotypes: np.ndarray, cines: np.ndarray, segmenter: CineSegmenter) -> list[dict]:
    """Controllability of every measurable phenotype, requested against measured."""
    frame_times = 60000.0 / heart_rate(phenotypes) / NUM_FRAMES
    pairs = zip(cines, frame_times, strict=True)
    measured = measure_cines((Cine(pixels=pixels, frame_time_ms=ms) for pixels, ms in pairs), segmenter)
    table = controllability(phenotypes, measured)
    return to_plain(table[table["measurable"] & (table["num_cines"] > 0)][REPORTED].round(4))


def run_measure(arguments: argparse.Namespace) -> dict:
    """The measurement on reference cines."""
    phenotypes, cines, _ = held_out(arguments.num_samples or 200, CONTROLLABILITY_SEED)
    return {"num_cines": len(cines), "controllability": controllability_table(phenotypes, cines, arguments.segmenter)}


def run_gate(arguments: argparse.Namespace) -> dict:
    """The VAE's reconstructions of reference cines."""
    phenotypes, cines, _ = held_out(arguments.num_samples or 200, CONTROLLABILITY_SEED)
    vae = arguments.pipe.vae
    reconstructions = []
    for part in batches(len(cines), 8):
        reconstructions.append(reconstruct(vae, cines[part]))
    reconstructions = np.concatenate(reconstructions)
    return {
        "num_cines": len(cines),
        "psnr_db": round(float(psnr(reconstructions, cines).mean()), 2),
        "ssim": round(float(ssim(reconstructions, cines).mean()), 4),
        "controllability": controllability_table(phenotypes, reconstructions, arguments.segmenter),
    }


def run_controllability(arguments: argparse.Namespace) -> dict:
    """Generated cines for held-out phenotypes."""
    phenotypes = phantom.sample_phenotypes(arguments.num_samples or 200, CONTROLLABILITY_SEED)
    cines, seconds = generate(arguments.pipe, phenotypes, CONTROLLABILITY_SEED)
    np.save(arguments.out / "controllability_cines.npy", cines)
    table = controllability_table(phenotypes, cines, arguments.segmenter)
    return {"num_cines": len(cines), "seconds_per_cine": round(seconds / len(cines), 3), "controllability": table}


def run_fidelity(arguments: argparse.Namespace) -> dict:
    """Generated cines for fresh phenotypes of the population, against reference cines of other subjects."""
    num_samples = arguments.num_samples or 1000
    _, reference, _ = held_out(2 * num_samples, FIDELITY_SEED)
    phenotypes = phantom.sample_phenotypes(num_samples, FIDELITY_SEED + 500_000)
    generated, seconds = generate(arguments.pipe, phenotypes, FIDELITY_SEED)
    np.save(arguments.out / "fidelity_cines.npy", generated)
    report = fidelity_report(generated, reference, RandomFeatureNetwork())
    return {"num_cines": num_samples, "seconds_per_cine": round(seconds / num_samples, 3), **to_plain(report)}


def run_sweep(arguments: argparse.Namespace) -> dict:
    """Controllability and fidelity over guidance scales, then over temperatures; few cines, so rough."""
    phenotypes = phantom.sample_phenotypes(arguments.num_samples or 100, CONTROLLABILITY_SEED)
    settings = [{"guidance_scale": scale} for scale in (1.0, 1.5, 1.75, 2.0, 3.0)]
    default = arguments.pipe.config.guidance_scale
    settings += [{"guidance_scale": default, "temperature": temperature} for temperature in (0.9, 0.8)]
    _, reference, _ = held_out(2 * len(phenotypes), FIDELITY_SEED)
    network = RandomFeatureNetwork()
    results = []
    for options in settings:
        cines, _ = generate(arguments.pipe, phenotypes, CONTROLLABILITY_SEED, **options)
        table = controllability_table(phenotypes, cines, arguments.segmenter)
        r2 = {row["phenotype"]: row["r2"] for row in table}
        report = fidelity_report(cines, reference, network)
        figures = {
            "frechet_ratio": round(report.frechet.ratio, 2),
            "precision": round(report.precision_recall.precision, 3),
            "recall": round(report.precision_recall.recall, 3),
            "share_within_reference_range": report.statistics["share"].round(3).to_dict(),
        }
        results.append({**options, **figures, "r2": r2})
        print(options, figures, {name: r2[name] for name in TARGETS}, flush=True)
    return {"num_cines": len(phenotypes), "sweep": results}


PARTS: dict[str, Callable[[argparse.Namespace], dict]] = {
    "measure": run_measure,
    "gate": run_gate,
    "controllability": run_controllability,
    "fidelity": run_fidelity,
    "sweep": run_sweep,
}


def main() -> None:
    """Run one part and write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--model", type=Path, default=Path("checkpoints/cpgg-phantom-small"))
    parser.add_argument("--out", type=Path, default=Path("outputs/quality"))
    parser.add_argument("--num-samples", type=int)
    parser.add_argument("--micro-batch-size", type=int, default=8, help="samples that the MAR works on at once")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    arguments.segmenter = CineSegmenter.from_pretrained(arguments.model / "cine_segmenter")
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
