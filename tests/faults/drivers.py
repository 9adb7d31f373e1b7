"""Drivers in processes of their own, for tests that kill them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["Driver", "Nursery", "nursery", "until"]

_REPOSITORY = Path(__file__).parents[2]
_PATIENCE = 100.0
"""Seconds that a test waits for anything."""
_TOLD = ("AWS_", "HADOOP_", "PYSPARK_", "SPARK_")
"""How names begin in the environment that a driver needs."""


def until(holds: Callable[[], object], what: str) -> None:
    """Wait, and look again and again."""
    end = time.monotonic() + _PATIENCE
    while not holds():
        assert time.monotonic() < end, f"it did not come to be that {what}"
        time.sleep(0.002)


class Nursery:
    """The process from which drivers are forked."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def ask(self, **order: object) -> int:
        """Give an order, and wait for its answer."""
        self.tell(**order)
        return self.answer()

    def tell(self, **order: object) -> None:
        """Give an order."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")

    def answer(self) -> int:
        """To the oldest order that was not answered."""
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], _PATIENCE)[0], "the driver lives"
        return int(self._process.stdout.readline())

    def drive(self, job: Path, run_id: str, **lot: object) -> Driver:
        """Start a driver; `tests.faults.nursery.Lot` says what may become of it."""
        log = job.with_name(f"{job.stem}-{run_id}.log")
        environment = {name: value for name, value in os.environ.items() if name.startswith(_TOLD)}
        told = {"config": str(job), "run_id": run_id, "environment": environment, "log": str(log), **lot}
        return Driver(self, self.ask(drive=told), log)


class Driver:
    """A job in a process of its own."""

    def __init__(self, of: Nursery, pid: int, log: Path) -> None:
        self.pid = pid
        self._nursery = of
        self._log = log
        self._code: int | None = None
        self._is_awaited = False

    def is_alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._code is None and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE

    def code(self) -> int:
        """Wait for its end; the exit code, or the signal with a minus."""
        if not self._is_awaited:
            self._is_awaited = True
            self._nursery.tell(wait=self.pid)
        if self._code is None:
            self._code = self._nursery.answer()
        return self._code

    def killed(self) -> bool:
        """Wait for its end; whether SIGKILL was the end."""
        return self.code() == -signal.SIGKILL

    def kill(self) -> None:
        """Send it SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)

    def stopped(self) -> None:
        """Wait until it has stopped at its phase."""
        until(lambda: self._status() == psutil.STATUS_STOPPED, f"the driver stops; it said {self.said()}")

    def _status(self) -> str:
        found: str = psutil.Process(self.pid).status()
        assert found != psutil.STATUS_ZOMBIE, self.said()
        return found

    def go_on(self) -> None:
        """Send it SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def said(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-3000:] if self._log.exists() else ""

    def below(self, *words: str) -> list[psutil.Process]:
        """Processes that it started, and those that these did, by words of their command lines."""
        return processes_below(self.pid, *words)


def processes_below(pid: int, *words: str) -> list[psutil.Process]:
    """Processes that a process started, and those that these did, by words of their command lines."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if all(word in line for word in words):
                found.append(process)
    return found


@contextlib.contextmanager
def nursery() -> Generator[Nursery]:
    """One for all tests: it takes seconds to import all."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.nursery"],
        cwd=_REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,  # select must see every answer that was not read
        env={**os.environ, "PYSPARK_PYTHON": sys.executable},
    ) as process:
        yield Nursery(process)
        assert process.stdin is not None
        process.stdin.close()
