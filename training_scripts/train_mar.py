"""Train the MAR on cached latents (`--help` lists the flags; they override the configuration).

accelerate launch training_scripts/train_mar.py --config training_scripts/configs/phantom_small_mar.yaml
ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 training_scripts/train_mar.py --config ...  # two CPU processes
"""

import sys

from cpgg_hf.training.loop import launch
from cpgg_hf.training.stages.mar import MARStage

if __name__ == "__main__":
    sys.exit(launch(MARStage))
