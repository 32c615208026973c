"""LoRA to a new site: 50 cines of a scanner that the shipped checkpoint never saw; does it learn to image like it?

    python benchmarks/new_site.py data          # 50 cines to train on, 12 to validate: data/phantom_new_site
    python benchmarks/new_site.py reference     # reference cines of that scanner, and reconstructions of the 3D-VAE
    python benchmarks/new_site.py before        # cines of the checkpoint as it is shipped
    python training_scripts/train_mar.py --config training_scripts/configs/phantom_new_site_lora.yaml
    python benchmarks/new_site.py after         # cines of the checkpoint with the adapter
    python benchmarks/new_site.py report        # summarises all: benchmarks/results/new_site.json

The new site images the phantom's population at 3 T (`phantom.SCANNER_3T`: T1 and T2, flip angle, coil shading,
resolution, noise). Held-out subjects come from population seeds that no training used; before and after are generated
from the same phenotypes and seeds, one sample per subject, no retries.
"""

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from checkpoint_quality import batches, controllability_table, generate, reconstruct
from cpgg_hf import CPGGPipeline, phantom
from cpgg_hf.dataset import CineWriter, write_description
from cpgg_hf.metrics import RandomFeatureNetwork, extract_features, frechet_with_floor
from cpgg_hf.segmentation.segmenter import CineSegmenter

SEED = 999_000
REPORTED = ("LVEDV", "LVEF", "RVEDV", "LAV_max", "septal_wall")
NUM_INFERENCE_STEPS = 25


def render_all(phenotypes: np.ndarray, seed: int, scanner: phantom.Scanner) -> list[phantom.PhantomHeart]:
    """The subjects of these phenotypes (N, 82), imaged by a scanner."""
    return [phantom.render(row, seed + index, scanner) for index, row in enumerate(phenotypes)]


def write_data(arguments: argparse.Namespace) -> None:
    """The new site's cines, as a data set that the training reads."""
    for split, count, seed in (("train", 50, SEED + 100_000), ("validation", 12, SEED + 200_000)):
        with CineWriter(arguments.data, split) as writer:
            phenotypes = phantom.sample_phenotypes(count, seed)
            for index, heart in enumerate(render_all(phenotypes, seed, phantom.SCANNER_3T)):
                writer.add(replace(heart.cine, subject=f"{split}-{index}", source="phantom at 3 T"))
    write_description(arguments.data)


def write_reference(arguments: argparse.Namespace) -> None:
    """Reference cines of the new site (twice as many as generated) and the 3D-VAE's reconstructions of others."""
    count, vae = arguments.num_samples, CPGGPipeline.from_pretrained(arguments.model).vae
    for name, number, seed in (("reference", 2 * count, SEED + 300_000), ("reconstructed", count, SEED)):
        hearts = render_all(phantom.sample_phenotypes(number, seed), seed, phantom.SCANNER_3T)
        cines = np.stack([heart.cine.pixels for heart in hearts])
        if name == "reconstructed":
            np.save(arguments.out / "same_subjects.npy", cines)
            cines = np.concatenate([reconstruct(vae, cines[part]) for part in batches(number, 8)])
        np.save(arguments.out / f"{name}.npy", cines)


def write_generated(arguments: argparse.Namespace) -> None:
    """Cines of the checkpoint, with the adapter for `after`; the phenotypes are the same."""
    pipe = CPGGPipeline.from_pretrained(arguments.model)
    if arguments.part == "after":
        pipe.mar.load_adapter(str(arguments.adapter))
    pipe.register_to_config(micro_batch_size=8)
    pipe.set_progress_bar_config(disable=True)
    phenotypes = phantom.sample_phenotypes(arguments.num_samples, SEED)
    cines, _ = generate(pipe, phenotypes, SEED, num_inference_steps=NUM_INFERENCE_STEPS)
    np.save(arguments.out / f"{arguments.part}.npy", cines)


def report(arguments: argparse.Namespace) -> None:
    """Frechet distances to the new site and R2 of measured phenotypes, before and after, beside floor and ceiling."""
    segmenter, network = CineSegmenter.from_pretrained(arguments.model / "cine_segmenter"), RandomFeatureNetwork()
    names = ("same_subjects", "reconstructed", "before", "after")
    cines = {name: np.load(arguments.out / f"{name}.npy") for name in names if arguments.has(name)}
    phenotypes = phantom.sample_phenotypes(len(cines["same_subjects"]), SEED)
    reference = extract_features(np.load(arguments.out / "reference.npy"), network)
    figures = {}
    for name, these in cines.items():
        result = frechet_with_floor(extract_features(these, network), reference)
        table = {row["phenotype"]: row["r2"] for row in controllability_table(phenotypes, these, segmenter)}
        figures[name] = {"frechet": round(result.distance, 4), "r2": {key: table[key] for key in REPORTED}}
        print(name, figures[name], flush=True)
    adapter = arguments.adapter / "adapter_model.safetensors"
    content = {
        "num_cines": len(phenotypes),
        "num_inference_steps": NUM_INFERENCE_STEPS,
        "frechet_floor": round(result.floor, 4),
        **figures,
        "adapter_bytes": adapter.stat().st_size if adapter.exists() else None,
        "model": arguments.model.name,
        "machine": f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads",
    }
    path = Path(__file__).with_name("results") / "new_site.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    rows = [np.concatenate(list(these[:8, 0]), axis=1) for these in cines.values()]
    Image.fromarray(np.concatenate(rows)).save(arguments.out / "first_frames.png")


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "data": write_data,
    "reference": write_reference,
    "before": write_generated,
    "after": write_generated,
    "report": report,
}


def main() -> None:
    """Runs one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--model", type=Path, default=Path("checkpoints/cpgg-phantom-small"))
    parser.add_argument("--adapter", type=Path, default=Path("runs/phantom_new_site_lora/ema"))
    parser.add_argument("--data", type=Path, default=Path("data/phantom_new_site"))
    parser.add_argument("--out", type=Path, default=Path("outputs/new_site"))
    parser.add_argument("--num-samples", type=int, default=200, help="generated cines; twice as many reference ones")
    arguments = parser.parse_args()
    arguments.has = lambda name: (arguments.out / f"{name}.npy").exists()
    arguments.out.mkdir(parents=True, exist_ok=True)
    PARTS[arguments.part](arguments)


if __name__ == "__main__":
    main()
