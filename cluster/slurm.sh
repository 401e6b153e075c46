#!/usr/bin/env bash
# A study on a Slurm allocation: Ray's head on the first node, a worker on each, one token for this job alone.
#   sbatch cluster/slurm.sh search_spaces/quickstart.yaml [key=value ...]
# BALANCE_TUNE_ROOT must be a folder that all nodes see. When the time is nearly up, or the job is preempted, the study
# is stopped cleanly and the job put back into the queue: it goes on where it was.
#SBATCH --job-name=balance-tune
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@180
set -euo pipefail

: "${1:?which study file? sbatch cluster/slurm.sh STUDY.yaml [key=value ...]}"
: "${BALANCE_TUNE_ROOT:?must be a folder that all nodes see}"
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # srun does not take it over from the job by itself (Slurm >= 22.05)
umask 077
jobs_folder="$BALANCE_TUNE_ROOT/.slurm"
mkdir -p "$jobs_folder"
RAY_AUTH_TOKEN_PATH="$jobs_folder/$SLURM_JOB_ID.token"
export RAY_AUTH_TOKEN_PATH
od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH"

head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | awk 'NR == 1')
head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head_node" hostname --ip-address | awk '{ print $1 }')
port=$((20000 + SLURM_JOB_ID % 10000)) # two jobs on one node must not meet
export RAY_ADDRESS="$head_ip:$port"
gpus=${SLURM_GPUS_ON_NODE:-0}
# Trials ask for all nodes at once, also for those that join a little later.
export BALANCE_TUNE_REACH="{\"CPU\": $((SLURM_CPUS_PER_TASK * SLURM_JOB_NUM_NODES)), \"GPU\": $((gpus * SLURM_JOB_NUM_NODES))}"

steps=()
# shellcheck disable=SC2317,SC2329  # the trap calls it
finish() {
  trap - EXIT TERM
  for step in "${steps[@]}"; do kill -TERM "$step" 2> /dev/null || true; done
  wait || true
  rm -f "$RAY_AUTH_TOKEN_PATH"
}
trap finish EXIT

srun --nodes=1 --ntasks=1 --nodelist="$head_node" --overlap \
  ray start --head --block --node-ip-address="$head_ip" --port="$port" \
  --dashboard-host=127.0.0.1 --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$gpus" &
steps+=($!)
until ray status --address "$RAY_ADDRESS" > /dev/null 2>&1; do
  kill -0 "${steps[0]}" # the head died: its own words are in the log
  sleep 2
done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
  srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$head_node" --overlap \
    ray start --block --address="$RAY_ADDRESS" --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$gpus" &
  steps+=($!)
fi

balance-tune run "$@" &
study=$!
stopped=
trap 'stopped=yes; kill -TERM "$study" 2> /dev/null || true' TERM
status=0
wait "$study" || status=$?
if [ -n "$stopped" ]; then # the wait above ended by the signal; the study ends by itself
  status=0
  wait "$study" || status=$?
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
