"""Run jobs, each in a process that gets SIGKILL when the named phase is about to begin, or so many seconds later.

Not a test. It reads a line of JSON for each job, `[CONFIG, RUN_ID, PHASE, SECONDS]`, or the first two for a driver that
lives; it says the driver's process id and, once it ended, how. Drivers are forked from this process, which has imported
everything and started nothing, so that none has to wait for the imports.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from jobs.config import read_config
from jobs.run import RunRequest, run


def drive(config: str, run_id: str, phase: str | None = None, seconds: float = 0.0) -> None:
    """Run a job, and die on the way."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def die_at(name: str) -> None:
        if name == phase and seconds:
            timer = threading.Timer(seconds, die)
            timer.daemon = True
            timer.start()
        elif name == phase:
            die()

    run(RunRequest(config=read_config(config), run_id=run_id), die_at)


def main() -> None:
    """One driver after the other, until there are no more lines."""
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for line in sys.stdin:
        driver = os.fork()
        if driver == 0:
            try:
                for stream in range(3):
                    os.dup2(nowhere, stream)
                drive(*json.loads(line))
            finally:
                os._exit(0)
        print(driver, file=answers, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(driver, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    main()
