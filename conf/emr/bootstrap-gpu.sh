#!/usr/bin/env bash
# A bootstrap action of EMR 7 for clusters with GPUs: YARN gives each container its own GPUs by cgroup v1, which these
# releases do not mount. cluster-gpu.json tells YARN this place. Each node runs it once, before YARN starts.
set -euo pipefail

sudo mkdir -p /spark-rapids-cgroup/devices
sudo mount -t cgroup -o devices cgroupv1-devices /spark-rapids-cgroup/devices
sudo chmod -R a+rwx /spark-rapids-cgroup
