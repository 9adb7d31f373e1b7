#!/usr/bin/env bash
# Score the flights of October to December 2013 on this machine. `make demo` makes the environment, then calls this.
#
# The run is named for its data, as a scheduler would do: the second call finds it published and says so at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

export PATH="$PWD/.venv/bin:$PATH"
run=flights-2013-q4

python examples/flights/prepare.py
./spark-submit.sh conf/flights.yaml --run-id "$run"
cat <<TEXT

Rows that were set aside, and why:
TEXT
batchscore results conf/flights.yaml "$run" --quarantine
cat <<TEXT

Try next (\`. .venv/bin/activate\` puts batchscore on your PATH):
  make demo                                                 again: the run is published, so nothing is scored twice
  ./spark-submit.sh conf/flights.yaml                       score again, as a run of its own
  ./spark-submit.sh conf/flights.yaml --set budgets.contract.max_rows=3
                                                            a budget that the bad rows exceed: the run is held back
  README.md, "The morning after"                            history, report, notebook, audit, replay of such runs
  make clean                                                remove all of it
TEXT
