#!/bin/bash
# `make smoke`: renders a tiny data set, trains every stage, assembles a checkpoint and generates with it, in runs/smoke.
# Less than three minutes on two CPU cores; what it generates is noise.
set -euo pipefail
rm -rf runs/smoke
cpgg prepare phantom --out runs/smoke/data --num-train 64 --num-validation 16 --num-test 0 --seed 0
for stage in phenotype_vae vae cine_segmenter scan_segmenter mar; do
    python training_scripts/train_$stage.py --config training_scripts/configs/smoke_$stage.yaml
done
python training_scripts/assemble_pipeline.py --phenotype_vae runs/smoke/phenotype_vae/model \
    --vae runs/smoke/vae/ema --mar runs/smoke/mar/ema --cine_segmenter runs/smoke/cine_segmenter/ema \
    --scan_segmenter runs/smoke/scan_segmenter/ema --num_decoding_steps 4 --num_inference_steps 10 \
    --out runs/smoke/checkpoint
cpgg generate --model runs/smoke/checkpoint --num-samples 2 --seed 0 --format gif --out runs/smoke/generated
