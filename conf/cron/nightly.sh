#!/usr/bin/env bash
# One night's run as cron starts it: named for its date, tried again where that can help, and never twice at once.
#
#   conf/cron/nightly.sh CONFIG.yaml [option of spark-submit.sh …]
#
# LOCK names the lock's file (default: beside the config, so one a job), TRIES and PAUSE say how often and after how many
# seconds another try begins (default: 3 and 600), DATE another night than today's in UTC.
set -euo pipefail

[[ $# -gt 0 ]] || { echo "usage: nightly.sh CONFIG.yaml [option of spark-submit.sh …]" >&2 && exit 2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
# Said once: a try after midnight is of the same night, and so has the same run id.
date=${DATE:-$(date -u +%F)}

# Two drivers of one run do no harm: of each split, and of the version, one counts. The lock spares the other's work.
exec 9>"${LOCK:-$1.lock}"
flock --nonblock 9 || { echo "nightly.sh: another run of $1 goes on" >&2 && exit 0; }

for ((try = 1; ; try++)); do
  code=0
  "$root/spark-submit.sh" "$@" --logical-date "$date" 9>&- || code=$?
  # 0 is published. What was refused (2) or is held back (4) waits for a person, and another try would end the same. What
  # failed (1), or ended nobody knows how (3), goes on where it stopped.
  [[ $code == 1 || $code == 3 ]] && ((try < ${TRIES:-3})) || exit "$code"
  echo "nightly.sh: try $try ended with $code; another one follows in ${PAUSE:-600} s" >&2
  sleep "${PAUSE:-600}"
done
