"""One driver of a run at a time: who comes while another is at work waits for it.

It spares work and no more: two drivers of one run publish it once all the same. So whoever has died, or fallen silent,
is not waited for, and a store that cannot tell keeps nobody from running.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, Self

from pydantic import AwareDatetime, Field

from etl.documents import Document
from etl.errors import EtlError
from jobs.errors import NotOurTurn
from jobs.identity import whoami

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.planning.destination import Target

__all__ = ["Turn"]

_HEARTBEAT = 10.0
"""Seconds between two signs of life."""
_SILENT = 45.0
"""Seconds without a sign, by the clock of who waits, after which a driver is taken for dead."""
_LONG_AGO = timedelta(minutes=30)
"""Age of a sign that no two clocks disagree by, so that nobody waits to see whether another follows."""
_PAUSE = 1.0
_PATIENCE = 2.0
"""Seconds that the end of a run waits for its last sign to be written."""
_LOADED_AT = datetime.now(UTC)
"""When this process began, or soon after."""
_NAME = re.compile(r"[0-9]{6}\.json")


class AtWork(Document):
    """The driver whose turn it is, or was."""

    format: Literal["batchscore.driver/1"] = "batchscore.driver/1"
    run_id: str
    who: str = Field(description="user@host.")
    host: str
    pid: int
    token: str = Field(description="Of this driver alone.")
    began_at: AwareDatetime
    told_at: AwareDatetime = Field(description="Its last sign of life, by its own clock.")
    has_ended: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it is known to be at work no more."""
        if self.has_ended or datetime.now(UTC) - self.told_at > _LONG_AGO:
            return True
        if self.host != socket.gethostname():
            return False
        # Processes of containers that are started again have the same number.
        was_before_us = self.pid == os.getpid() and self.began_at < _LOADED_AT
        return was_before_us or not _is_alive(self.pid)


class Turn:
    """The turn of this driver at a run; use as a context manager, so that others hear that it is over."""

    def __init__(self, target: Target, tell: Callable[[str], None]) -> None:
        """Nothing is asked for yet. `tell` is told, once for each, who is waited for."""
        self._target, self._tell = target, tell
        self._mine: AtWork | None = None
        self._path = ""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="batchscore-turn", daemon=True)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Say that it is over, if it ever began."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE)
        else:  # it never began, or a signal kept it from starting, so that it cannot be waited for
            self._beat()

    def take(self) -> None:
        """Begin, or go on with, our turn.

        Raises:
            NotOurTurn: another driver is at work; `wait` for it.
        """
        if self._mine is not None:
            return
        # Where the store is at fault the run says so itself.
        with contextlib.suppress(EtlError, OSError):
            number, other = self._last()
            if other is not None and not other.is_over:
                raise NotOurTurn(f"run {other.run_id} is being worked on by {other.who}.")
            self._take_next(number + 1)

    def wait(self) -> None:
        """Return when nobody else is at work any more, as far as can be told."""
        seen: AtWork | None = None
        since = time.monotonic()
        with contextlib.suppress(EtlError, OSError):
            while True:
                number, other = self._last()
                if other is None or other.is_over:
                    return
                if seen is None or other.token != seen.token:
                    self._tell(_told(other))
                if other != seen:
                    seen, since = other, time.monotonic()
                elif time.monotonic() - since > _SILENT and self._takes_over(number, other):
                    return
                time.sleep(_PAUSE)

    def _takes_over(self, number: int, other: AtWork) -> bool:
        """Whether the turn of a driver that is silent became ours, and not another's who waited for it, too."""
        try:
            self._take_next(number + 1)
        except NotOurTurn:
            return False
        self._tell(f"{other.who} has given no sign for {_SILENT:.0f} s, so it may have died; going on")
        return True

    def _last(self) -> tuple[int, AtWork | None]:
        """The newest turn, and whose it is; None before the first."""
        storage, folder = self._target.storage, self._target.layout.drivers
        numbers = [int(name.partition(".")[0]) for name in storage.names(folder) if _NAME.fullmatch(name)]
        if not numbers:
            return 0, None
        path = f"{folder}/{max(numbers):06}.json"
        data = storage.read_bytes(path)
        return max(numbers), AtWork.from_bytes(data, where=path) if data is not None else None

    def _take_next(self, number: int) -> None:
        """Whoever creates the next turn has it, so of two that find the last one over only one has."""
        now = datetime.now(UTC)
        mine = AtWork(
            run_id=self._target.layout.run_id,
            who=whoami(),
            host=socket.gethostname(),
            pid=os.getpid(),
            token=secrets.token_hex(8),
            began_at=now,
            told_at=now,
        )
        path = f"{self._target.layout.drivers}/{number:06}.json"
        if not self._target.storage.create_if_absent(path, mine.to_bytes()):
            raise NotOurTurn(f"run {mine.run_id} is being worked on by another driver.")
        self._mine, self._path = mine, path
        self._thread.start()

    def _beat(self) -> None:
        while self._mine is not None:
            is_last = self._end.wait(_HEARTBEAT)
            sign = self._mine.model_copy(update={"told_at": datetime.now(UTC), "has_ended": is_last})
            with contextlib.suppress(EtlError, OSError):
                self._target.storage.replace(self._path, sign.to_bytes())
            if is_last:
                return


def _told(other: AtWork) -> str:
    return (
        f"run {other.run_id} is being worked on by {other.who} (process {other.pid}) since "
        f"{other.began_at:%Y-%m-%d %H:%M} UTC; waiting until it has ended"
    )


def _is_alive(pid: int) -> bool:
    """Whether a process of this host is there; of another one's owner, too."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
