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


def run_id_of_date(job: str, text: str) -> str:
    """The id of a scheduled run: its job and logical date, with the time of day, in UTC, where that is not midnight.

    A retry of the scheduler has the same date, and so goes on where the first try ended.

    Raises:
        Refused: the text is no date and no moment as ISO 8601 writes them.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused(f"{text!r} is no logical date: write 2026-11-26, or 2026-11-26T06:00:00+00:00.") from error
    moment = moment.astimezone(UTC) if moment.tzinfo is not None else moment
    is_midnight = (moment.hour, moment.minute, moment.second) == (0, 0, 0)
    return f"{job}-{moment:%Y-%m-%d}" if is_midnight else f"{job}-{moment:%Y-%m-%dt%H%M%S}"


def name_of_run(job: str, run_id: str | None, logical_date: str | None) -> str:
    """The id that was given, or that of a date, or a new one.

    Raises:
        Refused: both are given, or the date is none.
    """
    if run_id is not None and logical_date is not None:
        raise Refused("--run-id and --logical-date both name the run; give one.")
    if logical_date is not None:
        return run_id_of_date(job, logical_date)
    return run_id or new_run_id(job)
