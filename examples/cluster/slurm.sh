#!/usr/bin/env bash
# A Slurm array: each task annotates its share of the recordings.
#
#     sbatch --array=0-15 examples/cluster/slurm.sh RECORDINGS RESULTS [OPTION...]
#     sbatch --dependency=afterany:JOB examples/cluster/merge.sh RESULTS
#
# Both folders are to be on a file system that all nodes see. Options are those of `annotate run`. A task that
# was stopped, lost or cut off goes on where it was: submit the same array again. Exit code 3 says that some
# recordings failed (RESULTS/shard-*.failures.csv says why); the table holds all others.
#SBATCH --job-name=annotate
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=24:00:00
#SBATCH --requeue
# Five minutes before the time is up: finish what is in hand.
#SBATCH --signal=B:TERM@300
set -euo pipefail
recordings=$1 results=$2
shift 2
shard=$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN))
mkdir -p "$results"
# The process of the task becomes the command, which so gets Slurm's signals.
exec annotate run "$recordings" --out "$results/shard-$shard.parquet" \
    --shard "$shard/$SLURM_ARRAY_TASK_COUNT" --offline "$@"
