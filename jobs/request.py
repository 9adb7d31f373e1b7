"""What is asked of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.errors import Refused
from jobs.identity import check_run_id
from jobs.planning.plan import Part

if TYPE_CHECKING:
    from datetime import datetime

    from jobs.config.job import JobConfig

__all__ = ["RunRequest"]


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What to run."""

    config: JobConfig
    run_id: str
    """Idempotency key: the same id goes on where an earlier try ended."""
    limit: int | None = None
    """Score the first so many rows only, into a scratch output."""
    sample: float | None = None
    """Score this share of the rows only, chosen by hash, into a scratch output."""
    missing_keys: str | None = None
    """Score only rows whose value of this column is not in what is published."""
    logical_date: datetime | None = None
    """The moment that a schedule means, for which the config was read; None of a run by hand."""

    def __post_init__(self) -> None:
        """Refuse what no plan may hold.

        Raises:
            Refused: the run id is no safe name, or a trial would be empty or more than everything.
        """
        check_run_id(self.run_id)
        if self.limit is not None and self.sample is not None:
            raise Refused("limit and sample are two kinds of trial; give one.")
        if self.missing_keys is not None and self.is_scratch:
            raise Refused("missing_keys asks what is published, and a trial has a place of its own; give one of them.")
        if self.limit is not None and self.limit < 1:
            raise Refused(f"limit {self.limit} would score nothing; give 1 or more.")
        if self.sample is not None and not 0 < self.sample <= 1:
            raise Refused(f"sample {self.sample} is no share; give one above 0 and at most 1.")

    @property
    def is_scratch(self) -> bool:
        """Whether the run publishes into a root of its own."""
        return self.part.is_trial

    @property
    def part(self) -> Part:
        """The part of the input that is asked for."""
        return Part(self.limit, self.sample, self.missing_keys)
