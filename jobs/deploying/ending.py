"""How a run on a cluster ended, by its record: of a driver of their own platforms tell whether it failed, no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.errors import ExitCode
from jobs.planning.plan import target_of
from jobs.record import RunState, load_record

if TYPE_CHECKING:
    from jobs.config.job import JobConfig
    from jobs.record import RunRecord

__all__ = ["code_of", "record_of"]


def record_of(config: JobConfig, run_id: str, *, scratch: bool) -> RunRecord | None:
    """The record of a run's last ending, or None."""
    target = target_of(config, run_id, scratch=scratch)
    return load_record(target.storage, target.layout.record)


def code_of(before: RunRecord | None, after: RunRecord | None) -> int:
    """The exit code of a run that was submitted between two looks at its record.

    A record that is the same as before is of an earlier try, which says nothing of this one.
    """
    if after is None or after == before:
        return ExitCode.UNKNOWN
    if after.state.is_published:
        return ExitCode.PUBLISHED
    # A run that is held back has an error, too: why it is.
    if after.state in {RunState.FAILED, RunState.CANCELLED} and after.error is not None:
        return after.error.exit_code
    return ExitCode.NOT_PUBLISHED
