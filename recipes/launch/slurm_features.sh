#!/bin/bash
# The feature cache written by many CPU machines under Slurm: sbatch recipes/launch/slurm_features.sh CONFIG [key=value ...]
#
# Not run: no Slurm was at hand; the parts themselves are tested. Each task of the array writes one part; the last to
# finish joins them. Another number of parts: sbatch --array=1-32. features.cache_dir must be a folder that all see.
#SBATCH --job-name=hf_asr-features
#SBATCH --array=1-8
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --output=%x-%A-%a.out

set -euo pipefail

python "${HF_ASR_SCRIPT:-recipes/prepare_features.py}" --config "$@" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
