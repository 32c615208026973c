"""How many phantom cines of 50x96x96 per second one core renders: `python benchmarks/phantom_speed.py`."""

import json
import platform
import time
from pathlib import Path

import numpy as np

from cpgg_hf.phantom import render, sample_phenotypes

NUM_CINES = 40


def main() -> None:
    """Renders 40 cines one after another in one process and writes the rate beside this file."""
    subjects = sample_phenotypes(NUM_CINES, seed=0)
    render(subjects[0], seed=0)
    seconds = []
    for index, phenotypes in enumerate(subjects):
        start = time.process_time()
        render(phenotypes, seed=index)
        seconds.append(time.process_time() - start)
    result = {
        "cines_per_second_and_core": round(1 / float(np.median(seconds)), 2),
        "num_cines": NUM_CINES,
        "clock": "process time, median of single cines",
        "machine": f"{platform.machine()}, numpy {np.__version__}, Python {platform.python_version()}",
    }
    print(json.dumps(result, indent=2))
    results = Path(__file__).with_name("results")
    results.mkdir(exist_ok=True)
    (results / "phantom_speed.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
