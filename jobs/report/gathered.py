"""What the page of a run tells: its record, and what is read once more for it within bounds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from etl.runs.layout import scratch_folder
from jobs.errors import Refused
from jobs.history.runs import record_of
from jobs.planning.plan import load_plan
from jobs.report.reasons import Reasons, reasons_of
from jobs.report.scores import Scores, scores_of
from jobs.report.work import Work, work_of
from jobs.settling.damage import what_is_left
from jobs.settling.receipts import receipts_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from etl.runs.receipt import Receipt
    from jobs.planning.destination import Target
    from jobs.planning.plan import Plan
    from jobs.record import RunRecord
    from jobs.report.as_run import AsRun

__all__ = ["PATIENCE", "DriftRow", "Ended", "Gathered", "ended_run", "gather"]

PATIENCE = 10.0
"""Seconds after which nothing more is read for a page; it says what is missing."""


class Ended(NamedTuple):
    """A run that ended, as its driver knows it or as storage does."""

    target: Target
    record: RunRecord
    plan: Plan | None
    """None where it failed before it had one."""
    receipts: Collection[Receipt]


class DriftRow(NamedTuple):
    """How far a column went from what it was compared with."""

    column: str
    measure: str
    """`psi of the training profile`, say."""
    value: float | None
    """None where it is not defined."""
    threshold: float | None
    """None where nothing was asked of it."""
    verdict: str
    """`ok`, `warn` or `fail`."""
    error: float = 0.0
    """What a sample may put the value off by, with 95 % confidence; 0: it is exact."""


class Gathered(NamedTuple):
    """A page in numbers."""

    record: RunRecord
    root: str
    """The output root."""
    is_trial: bool
    work: Work
    files: dict[int, tuple[str, ...]]
    """Input files of the slowest splits, by split."""
    scores: Scores
    reasons: Reasons
    config: AsRun
    drift: tuple[DriftRow, ...] = ()


def ended_run(target: Target) -> Ended:
    """A run as storage knows it.

    Raises:
        Refused: it has not ended.
    """
    record, plan = record_of(target), load_plan(target)
    if record is None:
        name = target.layout.run_id
        raise Refused(
            f"run {name} has no record yet: it is at work, or it died. `batchscore status` says how far it is."
        )
    receipts = receipts_of(target, what_is_left(target, plan).plan) if plan is not None else ()
    return Ended(target, record, plan, receipts)


def gather(ended: Ended, config: AsRun, drift: tuple[DriftRow, ...] = ()) -> Gathered:
    """All of it; what cannot be read, or not in time, is told as missing."""
    target, record, plan, receipts = ended
    until = time.monotonic() + PATIENCE
    # A worker's clock may be behind the driver's, so it is asked only where there is something to tell apart.
    work = work_of(receipts, record.started_at if record.resumed else None, until=until)
    slowest = {one.split for one in work.slowest}
    splits = [split for split in plan.splits if split.index in slowest] if plan is not None else []
    scores = Scores()
    if plan is not None:
        scores = scores_of(target, plan, work.predictions, state=record.state, until=until)
    return Gathered(
        record=record,
        root=target.layout.root,
        is_trial=scratch_folder("") in target.layout.root,
        work=work,
        files={split.index: tuple(part.file.path for part in split.ranges) for split in splits},
        scores=scores,
        reasons=reasons_of(target, plan, record.reasons, files=work.quarantine, until=until),
        config=config,
        drift=drift,
    )
