"""The latents of a split, encoded once: mean and log-variance of every cine's posterior, memory-mapped from disk.

The MAR trains on draws from these moments, so its steps never run the VAE. A cache belongs to one VAE and one data
set: its folder is named by a fingerprint of both, so that another VAE gets another cache. All processes encode, each
what it reads itself; encoding that was interrupted goes on where it stood, on any number of processes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.lib.format import open_memmap
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.training.cine_batches import CineBatches, to_network

_CINES_PER_BATCH = 16
_ENCODED_FILE = "encoded.npy"  # one byte a batch, 1 = written; it is the last file to appear


class LatentMoments(Dataset):
    """`moments[[3, 17]]` gives mean and logvar (2, C, T', H', W') float16 and phenotypes (2, 82) float32.

    Args:
        folder: where `encode_split` wrote.
        phenotypes: (N, 82) in physical units, NaN = missing.
    """

    def __init__(self, folder: Path, phenotypes: np.ndarray) -> None:
        self.mean = np.load(folder / "mean.npy", mmap_mode="r")
        self.logvar = np.load(folder / "logvar.npy", mmap_mode="r")
        self.phenotypes = torch.from_numpy(phenotypes).float()

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        rows = list(indices)
        return {
            "mean": torch.from_numpy(self.mean[rows]),
            "logvar": torch.from_numpy(self.logvar[rows]),
            "phenotypes": self.phenotypes[rows],
        }


def moments_fingerprint(vae: AutoencoderKLCPGG, cines: CineBatches, mixed_precision: str) -> str:
    """A hash of what the moments depend on: the encoder's weights, the configuration, the cines, the precision.

    The decoder has no part in it: it can be refined under a MAR that exists.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(vae.state_dict().items()):
        if not name.startswith(("encoder.", "quant_conv.")):
            continue
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    # The latent statistics and the refiner act after the cache, the policy not at all; private entries say where the
    # VAE was loaded from.
    settings = {
        key: value
        for key, value in vae.config.items()
        if not key.startswith("_") and key not in ("latents_mean", "latents_std", "refiner_channels", "data_policy")
    }
    digest.update(json.dumps([settings, cines.fingerprint(), mixed_precision], sort_keys=True).encode())
    return digest.hexdigest()


@torch.no_grad()
def encode_split(
    accelerator: Accelerator, vae: AutoencoderKLCPGG, cines: CineBatches, split: str, cache_dir: Path
) -> tuple[LatentMoments, str]:
    """The moments of a split and their fingerprint; the processes share in encoding what the cache lacks.

    Args:
        accelerator: says where and in which precision to encode.
        vae: on the accelerator's device, in evaluation mode.
        cines: the split.
        split: names the cache's folder together with the fingerprint.
        cache_dir: holds the caches of all VAEs and splits.
    """
    fingerprint = moments_fingerprint(vae, cines, accelerator.mixed_precision)
    folder = cache_dir / f"{split}-{fingerprint[:16]}"
    if accelerator.is_main_process and not (folder / _ENCODED_FILE).exists():
        _create_files(vae, cines, folder)
    accelerator.wait_for_everyone()
    _encode_missing(accelerator, vae, cines, folder)
    accelerator.wait_for_everyone()
    return LatentMoments(folder, cines.phenotypes()), fingerprint


def _create_files(vae: AutoencoderKLCPGG, cines: CineBatches, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    size = zip(cines[[0]]["cine"].shape[1:], vae.compression, strict=True)
    shape = (len(cines), vae.config.latent_channels, *(length // factor for length, factor in size))
    for name in ("mean.npy", "logvar.npy"):
        open_memmap(folder / name, mode="w+", dtype=np.float16, shape=shape).flush()
    partial = folder / f".partial-{_ENCODED_FILE}"
    np.save(partial, np.zeros(-(-len(cines) // _CINES_PER_BATCH), np.uint8))
    partial.rename(folder / _ENCODED_FILE)


def _encode_missing(accelerator: Accelerator, vae: AutoencoderKLCPGG, cines: CineBatches, folder: Path) -> None:
    missing = np.flatnonzero(np.load(folder / _ENCODED_FILE) == 0)
    shown = None if accelerator.is_main_process else True
    own = missing[accelerator.process_index :: accelerator.num_processes]
    for batch in tqdm(own, desc=f"encoding {folder.name}", unit="batch", disable=shown):
        first = int(batch) * _CINES_PER_BATCH
        images = to_network(cines[range(first, min(first + _CINES_PER_BATCH, len(cines)))]["cine"])
        with accelerator.autocast():
            posterior = vae.encode(images.to(accelerator.device)).latent_dist
        for name, values in (("mean", posterior.mean), ("logvar", posterior.logvar)):
            _write_rows(folder / f"{name}.npy", first, values.to(torch.float16).cpu().numpy())
        _write_rows(folder / _ENCODED_FILE, int(batch), np.ones(1, np.uint8))


def _write_rows(path: Path, first: int, rows: np.ndarray) -> None:
    """Rows of a .npy file, as bytes: a memory map writes whole pages, on a network folder over another node's rows."""
    offset = np.load(path, mmap_mode="r").offset
    with path.open("r+b") as file:
        file.seek(offset + first * rows[0].nbytes)
        file.write(np.ascontiguousarray(rows).tobytes())
        file.flush()
        os.fsync(file.fileno())
