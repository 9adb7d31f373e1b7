"""Run a job again and again in this process, whose clock is wrong: CONFIG, then SECONDS:RUN_ID:PHASE for each run.

It dies when the phase is about to begin, unless that is empty. Not a test. Workers are processes of their own, whose
clock is right. What asks for the time is told another one, here and in every library that is written in Python.
"""

from __future__ import annotations

import copyreg
import datetime as dt
import os
import signal
import sys
import time
from typing import Any

import pandas as pd  # its own classes of times are made of the real one

_NOW, _SECONDS, _NANOSECONDS = dt.datetime.now, time.time, time.time_ns
_AHEAD = [0.0]
"""Seconds, now."""


class _AnyTime(type):
    """Every time is one of the class that stands in for the real one."""

    real = dt.datetime

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _AnyTime.real)


class _Wrong(dt.datetime, metaclass=_AnyTime):
    def __new__(cls, *given: Any, **named: Any) -> Any:
        return _AnyTime.real(*given, **named)

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        return _NOW(tz) + dt.timedelta(seconds=_AHEAD[0])

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(dt.UTC).replace(tzinfo=None)


def go_wrong() -> None:
    """From here on the time is another one."""
    vars(dt)["datetime"] = _Wrong
    # Workers get times as texts: the class of theirs is not the one that is here now.
    copyreg.pickle(_AnyTime.real, lambda when: (pd.Timestamp, (when.isoformat(),)))
    time.time = lambda: _SECONDS() + _AHEAD[0]
    time.time_ns = lambda: _NANOSECONDS() + int(_AHEAD[0]) * 1_000_000_000


def main(config: str, *drives: str) -> None:
    """Run, and print how each run ended and in which year it began."""
    go_wrong()
    from jobs.config.job import read_config  # the clock was right before
    from jobs.run import RunRequest, run

    for drive in drives:
        seconds, run_id, phase = drive.split(":")
        _AHEAD[0] = float(seconds)

        def die_at(name: str, phase: str = phase) -> None:
            if name == phase:
                os.kill(os.getpid(), signal.SIGKILL)

        record = run(RunRequest(config=read_config(config), run_id=run_id), die_at)
        print(record.state, record.started_at.year, flush=True)  # noqa: T201  the answer


if __name__ == "__main__":
    main(*sys.argv[1:])
