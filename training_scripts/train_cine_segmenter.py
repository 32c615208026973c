"""Train the cine segmenter, used to measure phenotypes (`--help` lists the flags; they override the configuration).

accelerate launch training_scripts/train_cine_segmenter.py --config CONFIG  # configs/phantom_small_cine_segmenter.yaml
"""

import sys

from cpgg_hf.training.loop import launch
from cpgg_hf.training.stages.cine_segmenter import CineSegmenterStage

if __name__ == "__main__":
    sys.exit(launch(CineSegmenterStage))
