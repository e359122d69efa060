#!/usr/bin/env bash
# sbatch --nodes 4 workers/slurm.sh --model MODEL --data DATA --trials 200      (all arguments go to `autopeft search`)
# sbatch workers/slurm.sh --resume NAME      (goes on with an interrupted search)
# Set AUTOPEFT_STORAGE, and where they are elsewhere AUTOPEFT_SHARED and AUTOPEFT_VENV; see below.
#SBATCH --job-name=autopeft
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=08:00:00
#SBATCH --output=autopeft-%j.log
set -euo pipefail

shared="${AUTOPEFT_SHARED:-$SLURM_SUBMIT_DIR}"
venv="${AUTOPEFT_VENV:-$SLURM_SUBMIT_DIR/.venv}"
# Nodes' own disks go with the job, and SQLite does not belong on a shared folder (storage/README.md). Without a server:
#   apptainer run --env POSTGRES_USER=autopeft,POSTGRES_PASSWORD=… docker://postgres:17, on a host that nodes reach.
: "${AUTOPEFT_STORAGE:?set it to a PostgreSQL database that all nodes reach: postgresql+psycopg://autopeft:PASSWORD@HOST/autopeft}"
export AUTOPEFT_STORAGE
source "$venv/bin/activate"
export HF_HOME="${HF_HOME:-$shared/huggingface}" RAY_USAGE_STATS_ENABLED=0 TOKENIZERS_PARALLELISM=false

if [ "${1:-}" = "--resume" ]; then
    command=(autopeft resume "${@:2}")
else
    command=(autopeft search "$@")
fi

head_node="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
head_address="$(srun --nodes=1 --ntasks=1 --nodelist="$head_node" hostname --ip-address | awk '{print $1}')"
# Jobs that share a machine must not share a port.
port=$((20000 + SLURM_JOB_ID % 20000))

# One task on each node: the first becomes Ray's head and runs the command, the others join; all stop when it ends.
srun ray symmetric-run \
    --address "$head_address:$port" \
    --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus "$SLURM_CPUS_PER_TASK" \
    --num-gpus "${SLURM_GPUS_ON_NODE:-0}" \
    -- "${command[@]}" --address auto --folder "$shared/autopeft-runs"
