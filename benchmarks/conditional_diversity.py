"""How different are two cines of the same phenotypes? Generated samples, beside phantoms that draw all else anew.

    python benchmarks/conditional_diversity.py

For held-out phenotype vectors, several samples each: the Pearson correlation of the pixels of two cines, averaged over
pairs with the same phenotypes and over pairs with different ones. Phantoms rendered with independent seeds are the
reference: their pose, anatomy and contrast do not follow from the phenotypes. A generator that draws one fixed picture
per vector reaches 1 for the same phenotypes, however good its controllability and Frechet distance are.
"""

import argparse
import json
import platform
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from cpgg_hf import CPGGPipeline, phantom

SEED = 4242
RESULT = Path(__file__).parent / "results" / "conditional_diversity.json"


def correlations(cines: np.ndarray) -> dict[str, float]:
    """Mean pixel correlation of pairs in (N, samples, T, H, W): within a row, and between the first of two rows."""
    same = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for row in cines for a, b in combinations(row, 2)]
    other = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in combinations(cines[:, 0], 2)]
    return {"same_phenotypes": round(float(np.mean(same)), 3), "other_phenotypes": round(float(np.mean(other)), 3)}


def main() -> None:
    """Measures both and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("checkpoints/cpgg-phantom-small"))
    parser.add_argument("--num-vectors", type=int, default=40)
    parser.add_argument("--num-samples", type=int, default=4)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    count, samples = arguments.num_vectors, arguments.num_samples
    phenotypes = phantom.sample_phenotypes(count, SEED)
    rendered = np.stack(
        [
            [phantom.render(row, SEED + 1000 * k + i).cine.unit for k in range(1, samples + 1)]
            for i, row in enumerate(phenotypes)
        ]
    )
    pipe = CPGGPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(SEED + index) for index in range(count * samples)]
    generated = pipe(phenotypes, num_samples=samples, generator=generators).cines
    result = {
        "num_vectors": count,
        "num_samples": samples,
        "generated": correlations(generated.reshape(rendered.shape)),
        "phantoms": correlations(rendered),
        "model": arguments.model.name,
        "machine": f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads",
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
