#!/bin/bash
# One training on one or many machines under Slurm: sbatch recipes/launch/slurm.sh CONFIG [more.yaml] [key=value ...]
#
# Not run: no Slurm was at hand; a test runs it with stand-ins of srun and scontrol. 64 GPUs: sbatch --nodes 8 ...
# A task is a process and drives one GPU. SIGTERM (preemption, two minutes before the time limit) saves a checkpoint; the
# job is then queued again and goes on from it. Slurm signals the processes themselves, no launcher stands between:
# torchrun would kill them after 30 s, which may be too short for a checkpoint.
#SBATCH --job-name=hf_asr
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120

set -euo pipefail

export HF_ASR_SCRIPT=${HF_ASR_SCRIPT:-recipes/finetune_seq2seq.py}
# The first machine of the list is where all meet. Two jobs on one machine must not meet at one port.
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

# --wait: when a process has ended the others have two minutes, for a checkpoint; a crash ends them by this as well.
status=0
srun --kill-on-bad-exit=0 --wait=120 bash -c '
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
    export LOCAL_WORLD_SIZE=${SLURM_NTASKS_PER_NODE:-$SLURM_NTASKS}
    exec python "$HF_ASR_SCRIPT" "$@"
' task --config "$@" training.resume_from_checkpoint=true || status=$?

# 143 is SIGTERM: into the queue again. A run that failed by itself stays down, and its output says why.
if [ "$status" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
