#!/bin/bash
# Omnisky on several machines of a Slurm cluster: sbatch docs/slurm.sh aion-xlarge data=/shared/tokens shard=true
# One task a machine; torchrun starts a process for each of its GPUs. The folder must lie on a shared file system.
#SBATCH --job-name=omnisky
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=omnisky-%j.log

set -euo pipefail
name=$1
shift
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# Killed, requeued or out of time: the same command goes on from RUN/last, also with another --nodes.
export OMP_NUM_THREADS=8
# Else torch 2.13 tells ranks that start again (--max-restarts) the addresses of dead ones.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
srun torchrun \
    --nnodes "$SLURM_NNODES" --nproc-per-node "$SLURM_GPUS_ON_NODE" --max-restarts 3 \
    --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$first:${PORT:-29500}" \
    -m omnisky train "$name" --out "${RUN:-runs/$name}" --json "$@"
