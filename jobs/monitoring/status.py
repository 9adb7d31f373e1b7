"""`status.json` beside a run: what its driver is doing, for other tools and from other machines."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, Field

from etl.documents import Document
from etl.errors import BatchscoreError

if TYPE_CHECKING:
    from jobs.planning.destination import Target
    from jobs.progress import Tally

__all__ = ["RunStatus", "StatusFile", "load_status"]

_PAUSE = 2.0
"""Seconds between two writes at least: a store that takes half a second for one is not kept busy."""
_HEARTBEAT = 15.0
"""Seconds after which it is written again though nothing has changed: a phase may be long, and a driver dead."""
_PATIENCE = 2.0
"""Seconds that the end of a run waits for the last write."""
ENDED = "ended"
"""The phase of a driver that is done, one way or another; the record says which."""


class RunStatus(Document):
    """What the driver of a run was doing."""

    format: Literal["batchscore.status/1"] = "batchscore.status/1"
    run_id: str
    phase: str = Field(description="As in the record's `wall_seconds`, or `ended`.")
    phase_began_at: AwareDatetime
    told_at: AwareDatetime = Field(description="By the driver's clock.")
    splits: int | None = Field(default=None, ge=0)
    splits_done: int | None = Field(default=None, ge=0)
    share: float | None = Field(default=None, ge=0, description="Of the input's bytes, 0 to 1.")
    rows_done: float | None = Field(default=None, ge=0, description="As estimated from some of the receipts.")
    rows_per_second: float | None = None
    seconds_left: float | None = Field(default=None, description="Of scoring, at the pace so far.")
    quarantined_share: float | None = Field(default=None, description="Of the rows of some of the receipts, 0 to 1.")


class StatusFile:
    """Writes it in a thread of its own, so that no phase waits for a store; what cannot be written is not told."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._phase, self._began = "", datetime.now(UTC)
        self._tally: Tally | None = None
        self._news, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="batchscore-status", daemon=True)

    def phase(self, name: str) -> None:
        """See `jobs.progress.Display`."""
        self._phase, self._began = name, datetime.now(UTC)
        self._tell()

    def tally(self, tally: Tally) -> None:
        """See `jobs.progress.Display`."""
        self._tally = tally
        self._tell()

    def close(self) -> None:
        """See `jobs.progress.Display`."""
        if not self._thread.is_alive():
            return
        self._phase, self._began = ENDED, datetime.now(UTC)
        self._end.set()
        self._news.set()
        self._thread.join(_PATIENCE)

    def _tell(self) -> None:
        # Before the id is claimed there may be nothing, and nobody else's run is to be written beside.
        if self._phase == "claim":
            return
        if not self._thread.is_alive() and not self._end.is_set():
            self._thread.start()
        self._news.set()

    def _work(self) -> None:
        while True:
            self._news.wait(_HEARTBEAT)
            self._news.clear()
            is_last = self._end.is_set()
            with contextlib.suppress(BatchscoreError, OSError):
                self._target.storage.replace(self._target.layout.status, self._status().to_bytes())
            if is_last:
                return
            self._end.wait(_PAUSE)

    def _status(self) -> RunStatus:
        told = self._tally._asdict() if self._tally is not None else {}
        return RunStatus(
            run_id=self._target.layout.run_id,
            phase=self._phase,
            phase_began_at=self._began,
            told_at=datetime.now(UTC),
            **told,
        )


def load_status(target: Target) -> RunStatus | None:
    """What a driver told last; None where none did."""
    path = target.layout.status
    data = target.storage.read_bytes(path)
    return RunStatus.from_bytes(data, where=path) if data is not None else None
