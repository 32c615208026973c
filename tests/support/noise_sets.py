"""Small data sets of noise for tests that read splits."""

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.dataset import cine_row, shard_path, write_description, write_shard
from cpgg_hf.phenotypes import phenotype_index


def write_dataset(folder, **seeds):
    """A data set with one cine of noise per seed, whose LVEF is the seed; seeds by split."""
    for split, of_split in seeds.items():
        rows = []
        for seed in of_split:
            phenotypes = np.full(82, np.nan)
            phenotypes[phenotype_index("LVEF")] = seed
            cine = np.random.default_rng(seed).integers(0, 256, (50, 96, 96), dtype=np.uint8)
            details = {"frame_time_ms": 18.0, "subject": str(seed), "source": "test", "data_policy": "phantom"}
            rows.append(cine_row(Cine(pixels=cine, phenotypes=phenotypes, **details)))
        write_shard(rows, shard_path(folder, split, 0, 1))
    write_description(folder)
    return folder
