"""Call a model so that its crash or hang costs one row and not the job: breadcrumbs, suspects, a watchdog."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from scoring.bundles.cache import host_cache
from scoring.engine.breadcrumbs import Breadcrumb, RowRange, Suspects
from scoring.engine.contained import Contained

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from scoring.order import ModelOrder, Order
    from scoring.runtimes.base import Placement, Runtime

__all__ = ["ALONE", "Guard", "Situation"]


class Situation(NamedTuple):
    """What is known of the process that runs a task."""

    tries_before: int = 0
    """How often the task was tried already."""
    may_end: bool = False
    """Whether the process may be ended when the model hangs, because somebody tries the task again."""


ALONE = Situation()
"""A task that nobody tries again, in a process that does other things, too."""


class Guard:
    """Watches over the calls of one task."""

    def __init__(self, order: Order, situation: Situation, placement: Placement, *, task: int) -> None:
        """`task` is a number that the task has in each of its tries."""
        self.is_done = False
        """Whether every split has been scored, or cannot be."""
        self._order = order
        # The model is loaded in this process, too, and on a GPU both take memory.
        self._placement = placement._replace(workers_per_device=2 * placement.workers_per_device)
        self._crumb = Breadcrumb(host_cache().folder / "breadcrumbs", order.root, order.run_id, task=task)
        # A try before ended elsewhere, and nobody here knows of what; or several died, each of other rows.
        unknown = situation.tries_before > 0 and not self._crumb.is_known
        unknown |= situation.tries_before > 1 and bool(self._crumb.found)
        self.suspects = Suspects(self._crumb.found, everything=unknown)
        self._contained: dict[str, Contained] = {}
        self._calls: dict[str, _Call] = {}
        """The call that each model is in: several models have a thread each."""
        self._lock = threading.Lock()
        self._watchdog = _Watchdog(self._calls, order.call_timeout) if situation.may_end else None

    def predict(
        self,
        runtime: Runtime,
        model: ModelOrder,
        rows: Sequence[RowRange],
        *,
        names: Sequence[str],
    ) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
        """How to call a model with some of these rows: in this process, or in one of its own if they are suspect."""
        if self.suspects.among(rows):
            if model.name not in self._contained:
                self._contained[model.name] = Contained(
                    self._order.root, model, self._placement, deadline=self._order.call_timeout
                )
            contained = self._contained[model.name]
            return lambda feeds: contained.predict(feeds, names)
        return lambda feeds: self._watched(runtime, feeds, rows, names=names, name=model.name)

    def _watched(
        self,
        runtime: Runtime,
        feeds: Mapping[str, np.ndarray],
        rows: Sequence[RowRange],
        *,
        names: Sequence[str],
        name: str,
    ) -> dict[str, np.ndarray]:
        with self._lock:
            self._calls[name] = _Call(rows, time.monotonic())
            self._tell()
        try:
            return runtime.predict(feeds, names)
        finally:
            with self._lock:
                del self._calls[name]
                self._tell()

    def _tell(self) -> None:
        """Write down what is with a model now."""
        if self._calls:
            self._crumb.calling([row for call in self._calls.values() for row in call.rows])
        else:
            self._crumb.returned()

    def close(self) -> None:
        """The task has ended; whether it has come to its end, `is_done` says."""
        self._crumb.close(is_done=self.is_done)
        if self._watchdog is not None:
            self._watchdog.close()
        for contained in self._contained.values():
            contained.close()


class _Call(NamedTuple):
    """Rows that a model has, and since when."""

    rows: Sequence[RowRange]
    since: float


class _Watchdog:
    """Ends the process when a call takes too long: what hangs in a library's code cannot be interrupted otherwise."""

    def __init__(self, calls: Mapping[str, _Call], seconds: float) -> None:
        self._calls = calls
        self._seconds = seconds
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="batchscore-watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self._seconds / 4)):
            since = min((call.since for call in list(self._calls.values())), default=None)
            if since is not None and time.monotonic() - since > self._seconds:
                told = f"a call of the model has taken more than {self._seconds:g} s (scoring.call_timeout)"
                sys.stderr.write(f"batchscore: {told}: this worker is ended; the next try scores its rows apart.\n")
                sys.stderr.flush()
                os.kill(os.getpid(), signal.SIGKILL)
