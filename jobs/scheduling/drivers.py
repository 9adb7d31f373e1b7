"""Drivers of a backfill, a process each, some at a time: what each came to, and what its refusal says of the others."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from etl.errors import BatchscoreError
from jobs.config.variables import date_text
from jobs.deploying.ending import record_of
from jobs.errors import ExitCode, exit_code
from jobs.record import RunState
from jobs.run import published_before

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from jobs.record import RunRecord
    from jobs.scheduling.errands import Errand

__all__ = ["HERE", "Drivers", "Ending", "Outcome", "look", "worst"]

HERE = (sys.executable, "-P", "-m", "jobs.main", "run")
"""The command of a driver on this machine; with `-P` a stray `jobs` in the working folder is not taken for ours."""

_PAUSE = 0.1
"""Seconds between two looks at the drivers."""
_TAIL = 20
"""Lines of a log that an error is looked for in, from its end."""


class Outcome(StrEnum):
    """What became of a date."""

    PUBLISHED = "published"
    BEFORE = "published before"
    NOT_PUBLISHED = "not published"
    """Held back, or superseded."""
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """A signal stopped it."""
    UNKNOWN = "unknown"
    NOT_STARTED = "not started"


_OF_CODES = {
    ExitCode.PUBLISHED: Outcome.PUBLISHED,
    ExitCode.REFUSED: Outcome.REFUSED,
    ExitCode.UNKNOWN: Outcome.UNKNOWN,
    ExitCode.NOT_PUBLISHED: Outcome.NOT_PUBLISHED,
}
_WORST_FIRST = (
    (Outcome.UNKNOWN, ExitCode.UNKNOWN),
    (Outcome.FAILED, ExitCode.FAILED),
    (Outcome.CANCELLED, ExitCode.FAILED),
    (Outcome.REFUSED, ExitCode.REFUSED),
    (Outcome.NOT_PUBLISHED, ExitCode.NOT_PUBLISHED),
)


class Ending(NamedTuple):
    """What a date came to."""

    errand: Errand
    outcome: Outcome
    rows: int | None = None
    """Rows that were published."""
    seconds: float | None = None
    """Wall clock of its driver."""
    told: str = ""
    """Why it is not published."""
    log: str = ""
    """What its driver wrote, where that was kept."""

    @property
    def is_of_all(self) -> bool:
        """Whether it was refused for a reason that names neither its date nor its run, and so holds for the others."""
        own = (f"{self.errand.date:%Y-%m-%d}", self.errand.run_id)
        return self.outcome is Outcome.REFUSED and not any(name in self.told for name in own)


def worst(outcomes: Collection[Outcome]) -> int:
    """The exit code of a backfill: unknown before failed, refused, and not published."""
    return next((code for outcome, code in _WORST_FIRST if outcome in outcomes), ExitCode.PUBLISHED)


def look(errand: Errand) -> Ending | None:
    """What is known of a date before its driver starts; None where there is something to do.

    It was published, or is refused, or has failed: a store that does not answer is at fault for this date alone.
    """
    try:
        record = published_before(errand.request)
    except (BatchscoreError, OSError) as error:
        outcome = Outcome.REFUSED if exit_code(error) == ExitCode.REFUSED else Outcome.FAILED
        return Ending(errand, outcome, told=str(error) or type(error).__name__)
    if record is None:
        return None
    return Ending(errand, Outcome.BEFORE, record.account.scored.rows)


class _Driver:
    """A driver at work."""

    def __init__(self, errand: Errand, command: Sequence[str], log: Path) -> None:
        self.errand, self._log = errand, log
        self._began, self._clock = datetime.now(UTC), time.monotonic()
        self._is_stopped = False
        variables = {name: value for name, value in os.environ.items() if name != "BATCHSCORE_COMMAND"}
        with log.open("wb") as written:
            # A process group of its own: Ctrl-C reaches us alone, and we tell each driver once.
            self.process = subprocess.Popen(  # noqa: S603  what the person at the terminal asked for
                [*command, *errand.words],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                env=variables,
                process_group=0,
            )

    def stop(self) -> None:
        """Have it write down that its run was cancelled, and end.

        Not by SIGINT: a shell that starts something in the background has that ignored, by all that it starts.
        """
        self._is_stopped = True
        self.process.terminate()

    def ending(self) -> Ending:
        """What it came to; its log is kept where a person may want to read it."""
        outcome = _OF_CODES.get(self.process.wait(), Outcome.FAILED)
        seconds, told = time.monotonic() - self._clock, ""
        record = self._record()
        rows = record.account.scored.rows if record is not None and outcome is Outcome.PUBLISHED else None
        if outcome is Outcome.PUBLISHED:
            self._log.unlink()
            return Ending(self.errand, outcome, rows, seconds)
        if record is not None and record.recorded_at < self._began:
            record = None
        if record is not None and record.error is not None:
            told = record.error.message
        is_cancelled = record.state is RunState.CANCELLED if record is not None else self._is_stopped
        if outcome is Outcome.FAILED and is_cancelled:
            outcome = Outcome.CANCELLED
        return Ending(self.errand, outcome, rows, seconds, told or self._said(), str(self._log))

    def _record(self) -> RunRecord | None:
        request = self.errand.request
        try:
            return record_of(request.config, request.run_id, scratch=request.is_scratch)
        except (BatchscoreError, OSError):  # what the driver came to its exit code tells
            return None

    def _said(self) -> str:
        """The error that it ended with, or its last line."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_TAIL:]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return (errors or lines or ["it wrote nothing."])[-1]


class Drivers:
    """Starts drivers, `parallel` of them at a time, and waits for them."""

    def __init__(
        self, command: Sequence[str], *, parallel: int, tell: Callable[[Ending | None, list[str]], None]
    ) -> None:
        """`tell` is called with each ending, and whenever others are at work than before, with their dates."""
        self._command, self._parallel, self._tell = command, parallel, tell
        self._running: list[_Driver] = []
        self._endings: dict[str, Ending] = {}
        self.is_interrupted = False
        """Whether a signal ended it."""
        self.stopped_by: Ending | None = None
        """The refusal for which no more drivers were started."""

    def run(self, errands: Sequence[Errand]) -> list[Ending]:
        """What became of each date, in their order. A signal, and whatever is raised, stops all drivers at work."""
        waiting = list(reversed(errands))
        folder = Path(tempfile.mkdtemp(prefix="batchscore-backfill-"))
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self._parallel and self.stopped_by is None:
                    self._begin(waiting.pop(), folder)
                self._collect()
                if self.stopped_by is not None:
                    waiting.clear()
                time.sleep(_PAUSE if self._running else 0)
        except KeyboardInterrupt:
            self.is_interrupted = True
        finally:
            self._stop()
        if not any(folder.iterdir()):
            folder.rmdir()
        return [self._endings.get(one.run_id, Ending(one, Outcome.NOT_STARTED)) for one in errands]

    def _begin(self, errand: Errand, folder: Path) -> None:
        known = look(errand)
        if known is not None:
            self._end(known)
            return
        try:
            self._running.append(_Driver(errand, self._command, folder / f"{errand.run_id}.log"))
        except OSError as error:
            message = f"{self._command[0]} cannot be started: {error.strerror}. Nothing was scored by it."
            self._end(Ending(errand, Outcome.REFUSED, told=message))
        self._tell(None, self._at_work())

    def _collect(self) -> None:
        for driver in [one for one in self._running if one.process.poll() is not None]:
            self._running.remove(driver)
            self._end(driver.ending())

    def _end(self, ending: Ending) -> None:
        self._endings[ending.errand.run_id] = ending
        if ending.is_of_all and self.stopped_by is None:
            self.stopped_by = ending
        self._tell(ending, self._at_work())

    def _at_work(self) -> list[str]:
        return [date_text(driver.errand.date) for driver in self._running]

    def _stop(self) -> None:
        """Each driver writes down that its run was cancelled; that is waited for."""
        for driver in self._running:
            driver.stop()
        for driver in list(self._running):
            driver.process.wait()
        self._collect()
