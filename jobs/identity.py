"""Names that a run is told by: its id, and the person or service that started it."""

from __future__ import annotations

import getpass
import os
import re
import secrets
import socket
from datetime import UTC, datetime

from jobs.config.job import RUN_ID_PATTERN
from jobs.errors import Refused

__all__ = ["check_run_id", "name_of_run", "new_run_id", "run_id_of_date", "whoami"]


def new_run_id(job: str) -> str:
    """An id for a run by hand: job, UTC, four random hexadecimal digits."""
    return f"{job}-{datetime.now(UTC):%Y%m%dt%H%M%S}-{secrets.token_hex(2)}"


def check_run_id(run_id: str) -> None:
    """Refuse an id that is no safe name.

    Raises:
        Refused: with the rule.
    """
    if re.fullmatch(RUN_ID_PATTERN, run_id) is None:
        message = (
            f"run id {run_id!r} is not valid: a lower-case letter, then up to 99 of a-z 0-9 _ . - "
            "(Spark would read a folder named like a date or a number as one). Choose another --run-id."
        )
        raise Refused(message)


def whoami() -> str:
    """`user@host`; a container may run under a number that has no name, and then that number is the user."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def run_id_of_date(job: str, date: datetime) -> str:
    """The id of a scheduled run: its job and logical date, with the time of day, in UTC, where that is not midnight.

    A retry of the scheduler has the same date, and so goes on where the first try ended.
    """
    moment = date.astimezone(UTC)
    is_midnight = (moment.hour, moment.minute, moment.second) == (0, 0, 0)
    return f"{job}-{moment:%Y-%m-%d}" if is_midnight else f"{job}-{moment:%Y-%m-%dt%H%M%S}"


def name_of_run(job: str, run_id: str | None, date: datetime | None) -> str:
    """The id that was given, or that of the logical date, or a new one."""
    if run_id is not None:
        return run_id
    return run_id_of_date(job, date) if date is not None else new_run_id(job)
