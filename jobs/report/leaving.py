"""Leave the page of a run beside it when it ends. It takes bounded time, and what goes wrong is a warning."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING

from etl.errors import BatchscoreError
from etl.redaction import redacted
from jobs.report.as_run import as_run_of, config_bytes, load_as_run
from jobs.report.drifted import drift_rows
from jobs.report.gathered import Ended, ended_run, gather

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.config.job import JobConfig
    from jobs.planning.destination import Target

__all__ = ["leave_report", "make_report", "renew_report"]

_PATIENCE = 30.0
"""Seconds that the end of a run waits, where a store does not answer: to read takes a third of it at most, see
`jobs.report.gathered.PATIENCE`."""


def leave_report(ended: Ended, config: JobConfig) -> None:
    """Put the config, and the page if it is wanted, beside a run whose record is stored."""
    storage, layout = ended.target

    def work() -> None:
        kept = config_bytes(config)
        storage.replace(layout.config, kept)
        if config.report:
            from jobs.report.page import page  # noqa: PLC0415  jinja2 takes 0.1 s, which other commands need not pay

            storage.replace(
                layout.report, page(gather(ended, as_run_of(kept, ended.record), drift_rows(ended.target))).encode()
            )

    _bounded(work, ended.record.run_id)


def renew_report(target: Target) -> None:
    """Write the page of a run anew, where it has one, because a person has decided on it."""

    def work() -> None:
        if target.storage.stat(target.layout.report) is not None:
            target.storage.replace(target.layout.report, make_report(target).encode())

    _bounded(work, target.layout.run_id)


def make_report(target: Target) -> str:
    """The page of a run, from what is stored.

    Raises:
        Refused: the run has not ended.
    """
    from jobs.report.page import page  # noqa: PLC0415  as above

    ended = ended_run(target)
    return page(gather(ended, load_as_run(target, ended.record), drift_rows(target)))


def _bounded(work: Callable[[], None], run_id: str) -> None:
    """Wait for the work, but not for ever."""
    problems: list[str] = []

    def watched() -> None:
        try:
            work()
        except (BatchscoreError, OSError) as error:
            problems.append(redacted(str(error)))
        except Exception as error:  # noqa: BLE001  a page fails no run, whatever is wrong with it
            problems.append(redacted(f"{type(error).__name__}: {error}"))

    # A daemon: the process may end while a store does not answer.
    thread = threading.Thread(target=watched, name="batchscore-report", daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    if thread.is_alive():
        problems.append(f"it was not done after {_PATIENCE:.0f} s")
    if problems:
        hint = "`batchscore report` makes it from what is stored."
        warnings.warn(f"the report of run {run_id} was not written: {problems[0]} {hint}", stacklevel=2)
