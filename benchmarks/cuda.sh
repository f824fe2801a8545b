#!/usr/bin/env bash
# One prepared run on a machine with a CUDA GPU: what works there, and how fast. See cuda_run.py.
#
#   benchmarks/cuda.sh --fetch .wheels     where there is a network: the packages it would lack
#   benchmarks/cuda.sh --wheels .wheels    on the machine: at most 8 minutes, JSONs in results/cuda
#   benchmarks/cuda.sh --smoke             everything tiny on a CPU: does it run?
set -euo pipefail
exec "${PYTHON:-python3}" "$(dirname "${BASH_SOURCE[0]}")/cuda_run.py" "$@"
