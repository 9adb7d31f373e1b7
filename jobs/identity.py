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

__all__ = ["check_run_id", "new_run_id", "whoami"]


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
