"""Train the scan segmenter, which locates the heart in full scans (`--help` lists the flags).

accelerate launch training_scripts/train_scan_segmenter.py --config CONFIG  # configs/phantom_small_scan_segmenter.yaml
"""

import sys

from cpgg_hf.training.loop import launch
from cpgg_hf.training.stages.scan_segmenter import ScanSegmenterStage

if __name__ == "__main__":
    sys.exit(launch(ScanSegmenterStage))
