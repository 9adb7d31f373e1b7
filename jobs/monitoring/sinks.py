"""Tell others of a run's beginning and end. Whoever does not answer holds nothing up, and is recorded.

Each sink has a thread of its own, so a beginning is told while the run goes on; the end of a run waits for all of them
together, and no longer than its config says.
"""

from __future__ import annotations

import queue
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from pydantic import Field

from etl.documents import Document, Strict
from etl.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from jobs.planning.plan import Plan
    from jobs.record import RunRecord

__all__ = ["Deliveries", "Delivery", "Ended", "Event", "Line", "Sink", "Sinks"]

_PAUSE = 0.25
"""Seconds before the second try; then twice as long each time."""

Event = Literal["start", "finish", "failure", "sla"]
"""Sinks are told of the first two, hooks of all."""


class Ended(NamedTuple):
    """What is told of a run that ended."""

    record: RunRecord
    tasks: pa.Table
    """See `jobs.monitoring.tasks`."""
    plan: Plan | None = None
    """None where it ended before it had one."""
    seal: str | None = None
    """SHA-256 of the seal of the collected record; see `jobs.monitoring.sealing`."""


class Sink(Protocol):
    """Somebody who is told. Whatever is raised counts as not told."""

    name: str

    def start(self, begun: RunRecord) -> None:
        """A run has begun: its id, job, user and time are known, and no more."""

    def finish(self, ended: Ended) -> None:
        """It has ended, one way or another."""


class Delivery(Strict):
    """Whether somebody was told."""

    sink: str
    event: Event
    is_sent: bool
    tries: int = Field(ge=0, description="How often it was tried.")
    problem: str | None = Field(default=None, description="Why it was not.")


class Deliveries(Document):
    """Who was told of a run."""

    format: Literal["batchscore.deliveries/1"] = "batchscore.deliveries/1"
    run_id: str
    deliveries: tuple[Delivery, ...]


class Sinks:
    """Those of one run."""

    def __init__(self, sinks: Sequence[Sink], *, timeout: float, tries: int) -> None:
        """`timeout` in seconds is for all of them together, when the run ends."""
        self._timeout = timeout
        self._lines = [(sink, Line(sink.name, tries)) for sink in sinks]

    def start(self, begun: RunRecord) -> None:
        """Tell of the beginning, and wait for nobody."""
        for sink, line in self._lines:
            line.ask("start", partial(sink.start, begun))

    def finish(self, ended: Ended) -> tuple[Delivery, ...]:
        """Tell of the end, and wait for so long as may be."""
        deadline = time.monotonic() + self._timeout
        for sink, line in self._lines:
            line.ask("finish", partial(sink.finish, ended))
        return tuple(delivery for _, line in self._lines for delivery in line.told(deadline))


class Line:
    """Somebody who is told, and the thread in which that is done, one event after the other."""

    def __init__(self, name: str, tries: int) -> None:
        """Nobody is asked yet, and no thread begun."""
        self._name, self._tries = name, tries
        self._asked: list[Event] = []
        self._orders: queue.SimpleQueue[tuple[Event, Callable[[], None]] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        self._given_up = threading.Event()
        self._under_way: tuple[int, str | None] = (0, None)
        """Of the event that is being told, how often it was tried, and why the last try failed."""
        # A daemon: the process may end while somebody does not answer.
        self._thread = threading.Thread(target=self._work, name=f"batchscore-{name}", daemon=True)

    def ask(self, event: Event, order: Callable[[], None]) -> None:
        """Tell of an event when those before it are told; waits for nobody."""
        if not self._thread.is_alive():
            self._thread.start()
        self._asked.append(event)
        self._orders.put((event, order))

    def told(self, deadline: float) -> list[Delivery]:
        """What became of each event, by `deadline` of the monotonic clock; then it is given up."""
        found: list[Delivery] = []
        under_way: tuple[int, str | None] | None = None
        for event in self._asked:
            try:
                found.append(self._answers.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                # Those behind the first one that has no answer have not begun.
                tries, before = under_way = self._under_way if under_way is None else (0, None)
                problem = "it has not answered in time" + (f"; before that: {before}" if before else "")
                found.append(Delivery(sink=self._name, event=event, is_sent=False, tries=tries, problem=problem))
        self._given_up.set()
        self._orders.put(None)
        return found

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            self._answers.put(self._deliver(*order))

    def _deliver(self, event: Event, order: Callable[[], None]) -> Delivery:
        problem, tried = None, 0
        while tried < self._tries and not self._given_up.is_set():
            tried += 1
            self._under_way = (tried, problem)
            try:
                order()
            except Exception as error:  # noqa: BLE001  each client has errors of its own
                problem = redacted(f"{type(error).__name__}: {error}")
                self._given_up.wait(_PAUSE * 2 ** (tried - 1) if tried < self._tries else 0)
            else:
                return Delivery(sink=self._name, event=event, is_sent=True, tries=tried)
        return Delivery(sink=self._name, event=event, is_sent=False, tries=tried, problem=problem)
