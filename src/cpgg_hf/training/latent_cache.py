"""The latents of a split, encoded once: mean and log-variance of every cine's posterior, memory-mapped from disk.

The MAR trains on draws from these moments, so its steps never run the VAE. A cache belongs to one VAE and one data
set: its folder is named by a fingerprint of both, so that another VAE gets another cache. Encoding that was
interrupted goes on where it stood.
"""

from __future__ import annotations

import hashlib
import json
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
_PROGRESS_FILE = "progress.json"


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
    # The latent statistics and the refiner act after the cache; private entries say where the VAE was loaded from.
    settings = {
        key: value
        for key, value in vae.config.items()
        if not key.startswith("_") and key not in ("latents_mean", "latents_std", "refiner_channels")
    }
    digest.update(json.dumps([settings, cines.fingerprint(), mixed_precision], sort_keys=True).encode())
    return digest.hexdigest()


@torch.no_grad()
def encode_split(
    accelerator: Accelerator, vae: AutoencoderKLCPGG, cines: CineBatches, split: str, cache_dir: Path
) -> tuple[LatentMoments, str]:
    """The moments of a split and their fingerprint; the main process encodes what the cache lacks.

    Args:
        accelerator: says where and in which precision to encode.
        vae: on the accelerator's device, in evaluation mode.
        cines: the split.
        split: names the cache's folder together with the fingerprint.
        cache_dir: holds the caches of all VAEs and splits.
    """
    fingerprint = moments_fingerprint(vae, cines, accelerator.mixed_precision)
    folder = cache_dir / f"{split}-{fingerprint[:16]}"
    if accelerator.is_main_process:
        _encode_missing(accelerator, vae, cines, folder)
    accelerator.wait_for_everyone()
    return LatentMoments(folder, cines.phenotypes()), fingerprint


def _encode_missing(accelerator: Accelerator, vae: AutoencoderKLCPGG, cines: CineBatches, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    progress = folder / _PROGRESS_FILE
    done = json.loads(progress.read_text())["encoded"] if progress.exists() else 0
    if done == len(cines):
        return
    paths = [folder / "mean.npy", folder / "logvar.npy"]
    files = [np.load(path, mmap_mode="r+") for path in paths] if done else []
    with tqdm(desc=f"encoding {folder.name}", initial=done, total=len(cines), unit="cine", disable=None) as bar:
        for first in range(done, len(cines), _CINES_PER_BATCH):
            indices = range(first, min(first + _CINES_PER_BATCH, len(cines)))
            with accelerator.autocast():
                posterior = vae.encode(to_network(cines[indices]["cine"].to(accelerator.device))).latent_dist
            moments = [part.to(torch.float16).cpu().numpy() for part in (posterior.mean, posterior.logvar)]
            if not files:
                shape = (len(cines), *moments[0].shape[1:])
                files = [open_memmap(path, mode="w+", dtype=np.float16, shape=shape) for path in paths]
            for file, values in zip(files, moments, strict=True):
                file[first : indices.stop] = values
                file.flush()
            partial = progress.with_suffix(".partial")
            partial.write_text(json.dumps({"encoded": indices.stop}))
            partial.rename(progress)
            bar.update(len(indices))
