#!/bin/bash
# Two nodes of eight GPUs under SLURM; a job that is pre-empted or out of time saves and is queued again. Not run.
#   sbatch training_scripts/launch/slurm.sh training_scripts/train_mar.py --config training_scripts/configs/ukb_paper_mar.yaml
#SBATCH --job-name=cpgg
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@600
#SBATCH --output=runs/slurm-%j.log
set -euo pipefail
MAIN_ADDRESS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MAIN_ADDRESS
# Single quotes: each node reads its own SLURM_NODEID. `latest` starts a new folder from the beginning.
exec srun --kill-on-bad-exit=1 bash -c 'exec accelerate launch \
    --config_file training_scripts/launch/eight_gpus.yaml \
    --num_machines "$SLURM_NNODES" --num_processes "$((8 * SLURM_NNODES))" --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$MAIN_ADDRESS" --main_process_port 29500 \
    "$@" --resume_from_checkpoint latest' training "$@"
