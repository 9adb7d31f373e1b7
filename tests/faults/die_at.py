"""Run a job and SIGKILL this driver when the named phase is about to begin; `-` lets it live. Not a test."""

from __future__ import annotations

import os
import signal
import sys

from jobs.config import read_config
from jobs.run import RunRequest, run


def main() -> None:
    """`die_at.py CONFIG RUN_ID PHASE`."""
    config, run_id, fatal = sys.argv[1:]

    def die_at(phase: str) -> None:
        if phase == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    run(RunRequest(config=read_config(config), run_id=run_id), die_at)


if __name__ == "__main__":
    main()
