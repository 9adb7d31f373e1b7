"""Run a job and SIGKILL this driver when the named phase is about to begin, or so many seconds later. Not a test."""

from __future__ import annotations

import os
import signal
import sys
import threading

from jobs.config import read_config
from jobs.run import RunRequest, run


def main() -> None:
    """`die_at.py CONFIG RUN_ID [PHASE [SECONDS]]`; without a phase it lives."""
    config, run_id, *rest = sys.argv[1:]
    fatal, seconds = rest[0] if rest else None, float(rest[1]) if len(rest) > 1 else 0.0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def die_at(phase: str) -> None:
        if phase == fatal and seconds:
            timer = threading.Timer(seconds, die)
            timer.daemon = True
            timer.start()
        elif phase == fatal:
            die()

    run(RunRequest(config=read_config(config), run_id=run_id), die_at)


if __name__ == "__main__":
    main()
