"""The latents of a split, encoded once: mean and log-variance of every cine's posterior, memory-mapped from disk.

The MAR trains on samples from these moments, so its steps never run the VAE. A cache belongs to one VAE and one data
set: its folder is named by a fingerprint of both. The processes of a run share the encoding (`cpgg_hf.shards`); an
interrupted encoding is resumed, by any number of processes.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from cpgg_hf.cine import to_network
from cpgg_hf.errors import TrainingError
from cpgg_hf.files.staging import staged_file
from cpgg_hf.models.autoencoder_kl_cpgg import AutoencoderKLCPGG
from cpgg_hf.shards import Shard, ShardFolder, ShardPlan, make_shards
from cpgg_hf.training.cine_batches import CineBatches

_CINES_PER_SHARD = 128
_CINES_PER_BATCH = 16


class LatentMoments(Dataset):
    """The shards of `encode_split`, in their order, with phenotypes (N, 82) in physical units, NaN = missing.

    `moments[[3, 17]]` gives mean and logvar (2, C, T', H', W') float16 and phenotypes (2, 82) float32.
    """

    def __init__(self, paths: Sequence[Path], phenotypes: np.ndarray) -> None:
        self._shards = [np.load(path, mmap_mode="r") for path in paths]  # (cines, 2, C, T', H', W')
        self.phenotypes = torch.from_numpy(phenotypes).float()

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, T', H', W')."""
        return self._shards[0].shape[2:]

    def __len__(self) -> int:
        return len(self.phenotypes)

    def __getitem__(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        rows = list(indices)
        moments = np.stack([self._shards[row // _CINES_PER_SHARD][row % _CINES_PER_SHARD] for row in rows])
        mean, logvar = torch.from_numpy(moments).unbind(dim=1)
        return {"mean": mean, "logvar": logvar, "phenotypes": self.phenotypes[rows]}


def moments_fingerprint(vae: AutoencoderKLCPGG, cines: CineBatches, mixed_precision: str) -> str:
    """A hash of everything the moments depend on: the encoder's weights, the configuration, the cines, the precision.

    Not of the decoder, which can be trained further after the MAR.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(vae.state_dict().items()):
        if name.startswith(("encoder.", "quant_conv.")):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    # The latent statistics and the refiner act after the cache, the policy not at all; private entries name the folder
    # that the VAE was loaded from.
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
    """The moments of a split and their fingerprint; shard i is encoded by process i mod n if the cache lacks it.

    Args:
        accelerator: determines device and precision.
        vae: on that device, in evaluation mode.
        cines: the split.
        split: its name; the folder is named by it and the fingerprint.
        cache_dir: contains the caches of all VAEs and splits.

    Raises:
        TrainingError: shards are missing after all processes have encoded theirs.
    """
    fingerprint = moments_fingerprint(vae, cines, accelerator.mixed_precision)
    folder = cache_dir / f"{split}-{fingerprint[:16]}"
    starts = range(0, len(cines), _CINES_PER_SHARD)
    shards = [Shard(f"{start:08d}.npy", split, start, min(start + _CINES_PER_SHARD, len(cines))) for start in starts]
    plan = ShardPlan({"fingerprint": fingerprint}, tuple(shards))

    def write(shard: Shard, path: Path) -> None:
        batches = []
        for first in range(shard.first, shard.last, _CINES_PER_BATCH):
            images = to_network(cines[range(first, min(first + _CINES_PER_BATCH, shard.last))]["cine"])
            with accelerator.autocast():
                posterior = vae.encode(images.to(accelerator.device)).latent_dist
            batches.append(torch.stack([posterior.mean, posterior.logvar], dim=1).to(torch.float16).cpu().numpy())
        with staged_file(path) as partial, partial.open("wb") as file:
            np.save(file, np.concatenate(batches))

    hidden = None if accelerator.is_main_process else True
    rank, num_processes = accelerator.process_index, accelerator.num_processes
    with tqdm(total=len(shards[rank::num_processes]), desc=f"encoding {folder.name}", disable=hidden) as bar:
        make_shards(folder, plan, write, worker=rank, num_workers=num_processes, on_shard=lambda _: bar.update())
    accelerator.wait_for_everyone()
    missing = ShardFolder(folder, plan).missing(verify=False)
    if missing:
        raise TrainingError(
            f"the latent cache {folder} lacks {len(missing)} of {len(shards)} shards; run the same command again."
        )
    return LatentMoments([folder / shard.name for shard in shards], cines.phenotypes()), fingerprint
