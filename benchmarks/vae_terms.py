"""Effect of a discriminator on the small 3D-VAE: curves and held-out figures of runs that differ in nothing else.

    cpgg prepare phantom --out data/phantom_200 --num-train 200 --num-validation 24 --num-test 0 --seed 0
    python benchmarks/vae_terms.py train     # one run after the other: runs/vae_l1, runs/vae_adversarial, ..._strong
    python benchmarks/vae_terms.py report    # docs/vae_*.png, benchmarks/results/vae_terms.json

L1 + KL, 600 steps of two cines in float32; beside it the same with a small discriminator from the middle on, at the
paper's weight and at ten times that. Held-out figures are of the EMA weights on the 24 validation cines: PSNR, SSIM,
and gradient energy over the reference cine's (1 is equally sharp, less is blurred).
"""

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from PIL import Image

from checkpoint_quality import batches, reconstruct
from cpgg_hf import AutoencoderKLCPGG
from cpgg_hf.dataset import load_cines
from cpgg_hf.metrics.image_quality import psnr, ssim
from cpgg_hf.metrics.image_statistics import image_statistics

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
RUNS = {
    "L1 + KL": "vae_l1",
    "+ discriminator, weight 0.05": "vae_adversarial",
    "+ discriminator, weight 0.5": "vae_adversarial_strong",
}
TITLES = {"l1": "L1, training", "validation_psnr": "PSNR in dB, held out", "validation_ssim": "SSIM, held out"}
WEIGHTS = {"vae_adversarial": 0.05, "vae_adversarial_strong": 0.5}
SETTINGS = {
    "config": "training_scripts/configs/phantom_small_vae.yaml",
    "data": "data/phantom_200",
    "mixed_precision": "no",
    "max_train_steps": 600,
    "validation_steps": 100,
    "resume_from_checkpoint": "latest",
}
DISCRIMINATOR = {
    "adversarial_start_step": 301,
    "discriminator_channels": 16,
    "discriminator_layers": 2,
}


def train() -> None:
    """All runs; an existing one resumes from its last checkpoint."""
    for folder in RUNS.values():
        settings = SETTINGS | {"output_dir": f"runs/{folder}"}
        if folder in WEIGHTS:
            settings |= DISCRIMINATOR | {"adversarial_weight": WEIGHTS[folder]}
        flags = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
        subprocess.run([sys.executable, "training_scripts/train_vae.py", *flags], cwd=ROOT, check=True)


def report() -> None:
    """Draw the curves, evaluate the reconstructions and write the figures."""
    cines = np.stack([row["cine"] for row in load_cines(ROOT / "data/phantom_200", "validation")])
    sharp = image_statistics(cines)["gradient_energy"]
    figures, shown = {}, [cines]
    for name, folder in RUNS.items():
        vae = AutoencoderKLCPGG.from_pretrained(ROOT / "runs" / folder / "ema").eval()
        made = np.concatenate([reconstruct(vae, cines[part]) for part in batches(len(cines), 8)])
        energy = image_statistics(made)["gradient_energy"] / sharp
        figures[name] = {
            "psnr": round(float(psnr(made, cines).mean()), 2),
            "ssim": round(float(ssim(made, cines).mean()), 4),
            "gradient_energy_over_reference": round(float(energy.mean()), 3),
        }
        shown.append(made)
    content = {
        "held_out_cines": len(cines),
        **figures,
        "machine": f"{platform.machine()}, torch {torch.__version__}, float32",
    }
    print(json.dumps(content, indent=2))
    path = Path(__file__).with_name("results") / "vae_terms.json"
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    draw_curves(ROOT / "docs/vae_curves.png")
    rows = [np.concatenate([cine[12] for cine in part[:6]], axis=1) for part in shown]
    sheet = Image.fromarray(np.concatenate(rows))
    sheet = sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST)
    sheet.save(ROOT / "docs/vae_reconstructions.png")


def draw_curves(path: Path) -> None:
    """L1, held-out PSNR and SSIM of all runs, and how real the discriminators take cines to be."""
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.2), layout="constrained")
    for name, folder in RUNS.items():
        log = pd.read_json(ROOT / "runs" / folder / "log.jsonl", lines=True)
        for axis, (column, title) in zip(axes[: len(TITLES)], TITLES.items(), strict=True):
            line = log[["step", column]].dropna()
            axis.plot(line["step"], line[column], marker=".", label=name)
            axis.set_title(title)
        if folder in WEIGHTS:
            learning = log[log["step"] >= DISCRIMINATOR["adversarial_start_step"]].dropna(
                subset=["discriminator_real"]
            )
            for column, style in (("discriminator_real", "-"), ("discriminator_generated", "--")):
                label = f"{column.removeprefix('discriminator_')}, {WEIGHTS[folder]}"
                axes[3].plot(learning["step"], learning[column], style, marker=".", label=label)
    axes[3].set_title("mean logit of the discriminator")
    for axis in axes:
        axis.set_xlabel("step")
    axes[0].legend()
    axes[3].legend()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Runs one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("train", "report"))
    {"train": train, "report": report}[parser.parse_args().part]()


if __name__ == "__main__":
    main()
