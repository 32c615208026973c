"""A small data set on disk (12 x 16 x 16 cines that move) and the settings of tiny runs."""

import datasets
import numpy as np
import pytest
import torch

from cpgg_hf.data.cine_dataset import CineWriter, write_description

SHAPE = (4, 16, 16)
TINY_VAE = {
    "block_out_channels": [4, 4],
    "temporal_factors": [2],
    "layers_per_block": 1,
    "latent_channels": 2,
    "norm_num_groups": 2,
    "sample_size": list(SHAPE),
    "mid_block_add_attention": False,
}


@pytest.fixture(scope="session", autouse=True)
def _quiet_machine(tmp_path_factory):
    before = datasets.config.HF_DATASETS_CACHE, torch.get_num_threads()
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")
    torch.set_num_threads(1)
    yield
    datasets.config.HF_DATASETS_CACHE = before[0]
    torch.set_num_threads(before[1])


def write_data(folder, seed=0, num_train=24, num_validation=6):
    generator = np.random.default_rng(seed)
    for split, count in (("train", num_train), ("validation", num_validation)):
        with CineWriter(folder, split) as writer:
            for index in range(count):
                writer.add(
                    generator.integers(0, 256, SHAPE, dtype=np.uint8),
                    spacing_mm=1.8,
                    frame_time_ms=20.0,
                    subject=f"{split}-{index}",
                    source="noise",
                    data_policy="open",
                    phenotypes=generator.normal(100.0, 15.0, 82),
                )
    write_description(folder)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("cines"))


@pytest.fixture
def settings(data, tmp_path):
    """Settings that every tiny run shares; `output_dir` is the test's own."""
    return {
        "data": str(data),
        "output_dir": str(tmp_path / "run"),
        "max_train_steps": 6,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "lr_warmup_steps": 2,
        "max_grad_norm": 1.0,
        "ema_decay": 0.9,
        "weight_decay": 0.01,
        "logging_steps": 2,
        "validation_steps": 3,
        "validation_samples": 4,
        "checkpointing_steps": 3,
        "seed": 3,
    }
