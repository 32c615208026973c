"""Train the phenotype VAE, on one process (`--help` lists the flags; they override the configuration).

accelerate launch training_scripts/train_phenotype_vae.py --config CONFIG  # configs/phantom_small_phenotype_vae.yaml
"""

import sys

from cpgg_hf.training.loop import launch
from cpgg_hf.training.stages.phenotype_vae import PhenotypeVAEStage

if __name__ == "__main__":
    sys.exit(launch(PhenotypeVAEStage))
