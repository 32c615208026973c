"""Remove the latent channels of a trained 3D-VAE with a KL below `--minimum_nats` per element on training cines.

python training_scripts/prune_vae.py --vae runs/phantom_small_vae/ema --data data/phantom_small --out runs/pruned_vae
"""

import argparse
import sys
from pathlib import Path

import torch

from cpgg_hf import AutoencoderKLCPGG
from cpgg_hf.cine import to_network
from cpgg_hf.cli.main import exit_code
from cpgg_hf.cli.options import positive
from cpgg_hf.errors import CheckpointError
from cpgg_hf.files.staging import check_new, staged_folder
from cpgg_hf.models.autoencoder_surgery import keep_latent_channels, kl_per_channel
from cpgg_hf.training.cine_batches import CineBatches
from cpgg_hf.training.trained_models import load_trained
from push_options import add_push_options, push_result


@torch.no_grad()
def main() -> int:
    """Print the KL of each channel on some training cines, and write the smaller 3D-VAE."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("vae", "data", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--num_cines", type=positive, default=96)
    parser.add_argument("--minimum_nats", type=float, default=0.05)
    add_push_options(parser)
    arguments = parser.parse_args()

    check_new(Path(arguments.out))
    vae = load_trained(AutoencoderKLCPGG, arguments.vae).eval()
    batches = CineBatches(arguments.data, "train").batches(8, arguments.num_cines)
    posteriors = [vae.encode(to_network(batch["cine"])).latent_dist for batch in batches]
    information = torch.stack([kl_per_channel(p.mean, p.logvar) for p in posteriors]).mean(dim=0)
    print("KL per latent channel (nats per latent value):", [round(value, 3) for value in information.tolist()])
    channels = torch.nonzero(information >= arguments.minimum_nats).flatten().tolist()
    if not channels:
        raise CheckpointError(f"no channel has {arguments.minimum_nats} nats; give a smaller --minimum_nats.")
    with staged_folder(arguments.out) as folder:
        keep_latent_channels(vae, channels).save_pretrained(folder)
    print(f"kept channels {channels} of {vae.config.latent_channels}; wrote {arguments.out}")
    return push_result(arguments, Path(arguments.out))


if __name__ == "__main__":
    sys.exit(exit_code(main))
