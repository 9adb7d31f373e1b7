#!/usr/bin/env bash
# Tell Spark the addresses of this host's GPUs, as it asks for them: spark.executor.resource.gpu.discoveryScript.
# YARN and Kubernetes show a container its own GPUs only; NVIDIA's tool lists those.
set -euo pipefail

addresses=$(nvidia-smi --query-gpu=index --format=csv,noheader) || {
  echo "gpus.sh: nvidia-smi does not run here: no driver, or no GPU in this container" >&2
  exit 1
}
list=$(paste -sd, - <<<"$addresses")
printf '{"name": "gpu", "addresses": ["%s"]}\n' "${list//,/\", \"}"
