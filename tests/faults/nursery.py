"""Run jobs, each in a process that is killed or stopped at a chosen moment. Not a test.

It reads a line of JSON for each order: `{"drive": {…}}`, a `Lot`, starts a driver and is answered with its process id;
`{"wait": PID}` is answered with how it ended, once it has. Drivers are forked from this process, which has imported
everything and started nothing, so that none has to wait for the imports.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pyspark.sql  # noqa: F401  imported before the forks, not in each
from pydantic import BaseModel

import etl.runs.hdfs
import etl.runs.local
import etl.runs.s3  # noqa: F401  as above
from etl.errors import BatchscoreError
from etl.runs.storage import storage_for
from jobs.cli import app
from jobs.config.job import read_config
from jobs.errors import ExitCode, exit_code
from jobs.record import RunState
from jobs.run import RunRequest, run

if TYPE_CHECKING:
    from collections.abc import Callable


class Lot(BaseModel):
    """What a driver runs, and what becomes of it on the way."""

    config: str
    run_id: str
    environment: dict[str, str] = {}
    log: str = os.devnull
    """Where its streams go."""
    dies_at: str | None = None
    """SIGKILL when this phase is about to begin …"""
    after: float = 0.0
    """… or so many seconds later."""
    stops_at: str | None = None
    """SIGSTOP when this phase is about to begin; who sends SIGCONT lets it go on."""
    completions: int | None = None
    """SIGKILL when so many files of predictions were completed."""
    changes: int | None = None
    """SIGKILL when the store was changed so many times, in whatever way."""
    arguments: tuple[str, ...] = ()
    """Of the command line, for another command than a run."""


def die() -> None:
    """As when nobody asks."""
    os.kill(os.getpid(), signal.SIGKILL)


CHANGES = ("create_if_absent", "replace", "complete", "abort", "sweep", "delete", "remove")
"""Methods of a store that change it."""


def die_after(lot: Lot, last: int, *methods: str) -> None:
    """Others are under way in other threads when the last one that counts is done."""
    kind, count = type(storage_for(read_config(lot.config).output.uri)[0]), itertools.count(1)

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any) -> Any:
            found = method(*args)
            if next(count) == last:
                die()
            return found

        return call

    for name in methods:
        setattr(kind, name, counted(getattr(kind, name)))


def drive(lot: Lot) -> int:
    """Run a job, die or stop on the way; else the exit code of the command line."""

    def on_phase(name: str) -> None:
        if name == lot.stops_at:
            os.kill(os.getpid(), signal.SIGSTOP)
        if name == lot.dies_at and lot.after:
            timer = threading.Timer(lot.after, die)
            timer.daemon = True
            timer.start()
        elif name == lot.dies_at:
            die()

    try:
        if lot.completions is not None:
            die_after(lot, lot.completions, "complete")
        if lot.changes is not None:
            die_after(lot, lot.changes, *CHANGES)
        if lot.arguments:
            return int(app(lot.arguments, standalone_mode=False) or ExitCode.PUBLISHED)
        record = run(RunRequest(config=read_config(lot.config), run_id=lot.run_id), on_phase)
    except BatchscoreError as error:
        traceback.print_exc()
        return exit_code(error)
    except Exception:  # noqa: BLE001  as the command line does it
        traceback.print_exc()
        return ExitCode.FAILED
    return ExitCode.NOT_PUBLISHED if record.state is RunState.HELD_BACK else ExitCode.PUBLISHED


def born(lot: Lot) -> int:
    """A driver's process id."""
    driver = os.fork()
    if driver:
        return driver
    try:
        os.setpgid(0, 0)
        os.environ.update(lot.environment)
        for stream, path in enumerate((os.devnull, lot.log, lot.log)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), stream)
        code = drive(lot)
        sys.stderr.flush()
        os._exit(code)
    finally:
        os._exit(ExitCode.FAILED)


def main() -> None:
    """One order after the other, until there are no more lines."""
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        order = json.loads(line)
        if "drive" in order:
            answer = born(Lot.model_validate(order["drive"]))
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
