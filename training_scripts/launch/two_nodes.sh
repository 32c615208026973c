#!/bin/bash
# Two machines of eight GPUs without a scheduler: run this on both, with RANK=0 on the first and RANK=1 on the second.
# The folders of data and run lie on storage that both see. Not run.
#   RANK=0 MAIN_ADDRESS=10.0.0.1 bash training_scripts/launch/two_nodes.sh training_scripts/train_mar.py --config ...
set -euo pipefail
exec accelerate launch --config_file training_scripts/launch/eight_gpus.yaml \
    --num_machines 2 --num_processes 16 --machine_rank "$RANK" \
    --main_process_ip "$MAIN_ADDRESS" --main_process_port "${MAIN_PORT:-29500}" \
    "$@"
