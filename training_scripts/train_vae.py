"""Train the 3D-VAE (`--help` lists the flags; they override the configuration, as in `--model.latent_channels 8`).

accelerate launch training_scripts/train_vae.py --config training_scripts/configs/phantom_small_vae.yaml
ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 training_scripts/train_vae.py --config ...  # two CPU processes
"""

import sys

from cpgg_hf.training.loop import launch
from cpgg_hf.training.stages.vae import VAEStage

if __name__ == "__main__":
    sys.exit(launch(VAEStage))
