"""How far scoring is, told from the listing of receipts; `jobs.display.progress` shows it.

The run knows nothing of it but a function to call before each phase. What it looks at is in storage, so it can be
watched from anywhere; what goes wrong while it looks is its own business and never the run's.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from etl.printable import counted
from jobs.planning.plan import load_plan
from scoring.worker import receipt_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.planning.destination import Target
    from jobs.planning.plan import Plan

__all__ = ["PHASES", "Display", "Observer", "ReceiptWatch", "Tally"]

PHASES = {
    "claim": "claiming the run id",
    "list": "listing the input",
    "plan": "resolving model and splits",
    "start_spark": "starting Spark",
    "freeze": "freezing the table as Parquet",
    "prepare": "running the relational steps and freezing their table",
    "score": "scoring",
    "settle": "checking the row account",
    "count": "counting rows that repeat the key of another",
    "drift": "measuring drift",
    "publish": "publishing",
    "complete": "making the files visible",
    "commit": "committing the version",
    "mark": "marking the run's folder",
    "record": "writing the run's record",
    "ending": "writing down why the run ends",
}
"""What a run is doing, by the name of each phase and in their order."""

_LOOK_SECONDS = 0.5
_LISTING_SHARE = 10
"""A look may take one part in so many of the time, so that a slow store is not kept busy with listings."""
_READ_PER_LOOK = 8
_READ_AT_MOST = 64


class Tally(NamedTuple):
    """How far scoring is."""

    splits_done: int
    splits: int
    rows_done: float | None
    """Rows of the finished splits, from those receipts that were read; None before the first."""
    share: float
    """Of the input's bytes, 0 to 1."""
    rows_per_second: float | None
    """Since the watch began; None before a split was finished."""
    seconds_left: float | None
    """At the pace so far; None before a split was finished."""
    quarantined_share: float | None = None
    """Of the rows of those receipts that were read, 0 to 1; None before the first."""

    def __str__(self) -> str:
        """One line for a log."""
        parts = [f"{self.splits_done:,} of {counted(self.splits, 'split')}"]
        if self.rows_done is not None:
            parts.append(f"{self.rows_done:,.0f} rows")
        if self.rows_per_second is not None and self.seconds_left is not None:
            parts += [f"{self.rows_per_second:,.0f} rows/s", f"{self.seconds_left:,.0f} s left"]
        if self.quarantined_share:
            parts.append(f"{self.quarantined_share:.2%} set aside")
        return ", ".join(parts)


class ReceiptWatch:
    """Counts receipts. Sizes come from the plan, and rows from a few receipts, so that a look costs little."""

    def __init__(self, target: Target, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to watch now: what is done already belongs to an earlier try and not to the pace."""
        self._target = target
        self._splits = {split.name: split for split in plan.splits}
        self._clock = clock
        self._bytes = max(1, sum(split.bytes for split in plan.splits))
        self._read_bytes = self._read_rows = self._read_quarantined = 0
        self._read: set[str] = set()
        self._began = clock()
        self._before = self._done_bytes(self._names())

    def look(self) -> Tally:
        """How far scoring is now."""
        names = self._names()
        self._read_some(names)
        done = self._done_bytes(names)
        rows_a_byte = self._read_rows / self._read_bytes if self._read_bytes else None
        pace = (done - self._before) / max(self._clock() - self._began, 1e-9)
        return Tally(
            splits_done=len(names),
            splits=len(self._splits),
            rows_done=None if rows_a_byte is None else done * rows_a_byte,
            share=done / self._bytes,
            rows_per_second=pace * rows_a_byte if pace > 0 and rows_a_byte is not None else None,
            seconds_left=(self._bytes - done) / pace if pace > 0 else None,
            quarantined_share=self._read_quarantined / self._read_rows if self._read_rows else None,
        )

    def _names(self) -> set[str]:
        storage, layout = self._target
        found = {name.partition(".")[0] for name in storage.names(layout.receipts) if name.endswith(".json")}
        return found & self._splits.keys()

    def _done_bytes(self, names: set[str]) -> int:
        return sum(self._splits[name].bytes for name in names)

    def _read_some(self, names: set[str]) -> None:
        for name in sorted(names - self._read)[: min(_READ_PER_LOOK, _READ_AT_MOST - len(self._read))]:
            self._read.add(name)
            receipt = receipt_of(*self._target, self._splits[name])
            if receipt is not None:
                self._read_bytes += self._splits[name].bytes
                self._read_rows += receipt.account.rows_in.rows
                self._read_quarantined += receipt.account.quarantined.rows


class Display(Protocol):
    """Where progress is shown."""

    def phase(self, name: str) -> None:
        """A phase begins, and the one before ended."""

    def tally(self, tally: Tally) -> None:
        """Scoring is so far."""

    def close(self) -> None:
        """Nothing more comes; leave the terminal clean."""


class Observer:
    """What a run calls before each phase; while it scores, a thread looks at the receipts."""

    def __init__(self, target: Target, display: Display) -> None:
        """Watch the run that lies at `target`; use as a context manager, so that the terminal is left clean."""
        self._target = target
        self._display = display
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.phases: list[str] = []
        """What was called so far; nothing for a run that had nothing to do."""

    def __call__(self, phase: str) -> None:
        """A phase begins."""
        self._end_watch()
        self.phases.append(phase)
        with contextlib.suppress(Exception):
            self._display.phase(phase)
        if phase == "score":
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._watch, args=(self._stop,), daemon=True, name="progress")
            self._thread.start()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the watch and the display."""
        self._end_watch()
        with contextlib.suppress(Exception):
            self._display.close()

    def _end_watch(self) -> None:
        self._stop.set()
        # Where a signal came while it was started, it cannot be waited for, and ends at its first look.
        if self._thread is not None and self._thread.is_alive():
            # A look that hangs in a slow store must not hold the run; the thread ends with the process.
            self._thread.join(timeout=1.0)
        self._thread = None

    def _watch(self, stop: threading.Event) -> None:
        watch: ReceiptWatch | None = None
        pause = 0.0
        while not stop.wait(pause):
            began = time.monotonic()
            try:
                if watch is None:
                    plan = load_plan(self._target)
                    watch = ReceiptWatch(self._target, plan) if plan is not None else None
                tally = watch.look() if watch is not None else None
                if tally is not None and not stop.is_set():
                    self._display.tally(tally)
            except Exception:  # noqa: BLE001, S110  whatever it is, it is no reason to end a run that scores
                pass
            pause = max(_LOOK_SECONDS, _LISTING_SHARE * (time.monotonic() - began))
