"""Find the runs that `explain-duration` compares, and say in words what differs between them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

from etl.errors import ReadError
from etl.format.problems import nearest
from etl.printable import counted
from jobs.errors import Refused
from jobs.history.runs import config_of, find_run, history, look_at
from jobs.monitoring.anatomy import Anatomy, anatomy_of
from jobs.monitoring.collected import Collected
from jobs.monitoring.explain import Part, explain
from jobs.monitoring.tasks import tasks_table
from jobs.record import RunState
from jobs.settling.receipts import receipts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from jobs.monitoring.trend import RunLine
    from jobs.record import RunRecord

__all__ = ["Explanation", "Side", "Usual", "explain_run", "tasks_of", "usual_run"]

_MANY = 30
"""Runs of which the usual one is the median."""
_SHOWN = 3
_ENOUGH = 3


class Side(NamedTuple):
    """A run that is compared."""

    record: RunRecord
    tasks: pa.Table
    anatomy: Anatomy


class Usual(NamedTuple):
    """The usual run of a job."""

    line: RunLine
    of: int
    """The number of runs of which it is the median."""


class Explanation(NamedTuple):
    """Why a run took longer, or less, than another one."""

    before: Side
    now: Side
    parts: list[Part]
    notes: dict[str, str]
    """By name of a part, what is known of its cause."""
    median_of: int | None = None
    """The number of runs of which `before` is the median; None where it was named."""

    @property
    def change(self) -> float:
        """Seconds by which it took longer."""
        return self.now.record.seconds - self.before.record.seconds


def explain_run(where: str, run_id: str, against: str = "median") -> Explanation:
    """Compare a run with another one, or with the usual one of its job.

    Raises:
        Refused: a run is not there, or left no record, or there is none to compare with.
    """
    lines = [line for line in history(where) if line.record is not None]
    asked = _line(lines, where, run_id)
    usual = usual_run(lines, asked) if against == "median" else None
    other = usual.line if usual is not None else _line(lines, where, against)
    if other.run_id == run_id:
        raise Refused(f"run {run_id} is compared with itself; name another one.")
    before, now = _side(where, other), _side(where, asked)
    parts, notes = explain(before.anatomy, now.anatomy), _notes(before, now)
    return Explanation(before, now, parts, notes, usual.of if usual is not None else None)


def usual_run(lines: Sequence[RunLine], run: RunLine) -> Usual:
    """The run of the median duration among the latest ones before a run, of the same job, that were scored in one try.

    Raises:
        Refused: there are fewer than three.
    """
    comparable = [
        line
        for line in lines
        if line.job == run.job
        and line.started_at < run.started_at
        and line.record is not None
        and line.record.state in {RunState.SUCCEEDED, RunState.PARTIALLY_SUCCEEDED, RunState.HELD_BACK}
        and line.record.splits_scored_now == line.record.splits
        and line.record.missing_keys is None
    ]
    latest = sorted(comparable, key=lambda line: line.started_at)[-_MANY:]
    if len(latest) < _ENOUGH:
        raise Refused(
            f"{counted(len(latest), 'run')} of {run.job} ended before {run.run_id}, too few to say what is usual. "
            "Name one with --against."
        )
    return Usual(sorted(latest, key=lambda line: line.seconds or 0.0)[(len(latest) - 1) // 2], len(latest))


def _line(lines: Sequence[RunLine], where: str, run_id: str) -> RunLine:
    for line in lines:
        if line.run_id == run_id:
            return line
    raise Refused(
        f"{where}: there is no run {run_id!r} that has left a record.{nearest(run_id, [line.run_id for line in lines])}"
    )


def _side(where: str, line: RunLine) -> Side:
    assert line.record is not None  # noqa: S101  others were left out
    tasks = tasks_of(where, line.record)
    return Side(line.record, tasks, anatomy_of(line.record, tasks))


def tasks_of(where: str, record: RunRecord) -> pa.Table:
    """The tasks of a run, a line a split (`jobs.monitoring.tasks.TASKS`), as they were collected, or by its receipts.

    Raises:
        Refused: the run is not there.
        ReadError: what was collected is damaged, and nobody says where the receipts are.
    """
    config = config_of(where)
    uri = config.metrics.uri if config is not None and config.metrics is not None else where
    if config is None or config.metrics is not None:
        try:
            found = Collected.at(uri).tasks(record.job, record.run_id)
        except ReadError as error:
            if config is None:
                raise
            warnings.warn(str(error), stacklevel=2)
            found = None
        if found is not None:
            return found
    target = find_run(where, record.run_id)
    plan = look_at(target).plan
    if plan is None:
        return tasks_table((), ())
    return tasks_table(receipts_of(target, plan), plan.splits)


def _notes(before: Side, now: Side) -> dict[str, str]:
    old, new = before.record, now.record
    notes = {
        "rows": f"{before.anatomy.rows:,} → {counted(now.anatomy.rows, 'row')}",
        "workers": f"{before.anatomy.slots:,} → {now.anatomy.slots:,} at a time",
        "skew": _slowest(now.tasks),
        "read": f"{_bytes_a_row(old)} → {_bytes_a_row(new)} bytes a row",
    }
    retried = sum(count > 0 for count in now.tasks["task_try"].to_pylist())
    if retried:
        notes["retries"] = f"{counted(retried, 'split was', 'splits were')} scored by tasks that Spark had tried before"
    if old.model is not None and new.model is not None and old.model.bundle_sha256 != new.model.bundle_sha256:
        told = f"model {old.model.name}:{old.model.version} → {new.model.name}:{new.model.version}"
        notes |= {name: told for name in new.worker_seconds if name.startswith("infer")}
        if old.model.spec_digest != new.model.spec_digest:
            told = f"ETL spec {old.model.spec_digest[:12]} → {new.model.spec_digest[:12]}"
            notes |= {name: told for name in new.worker_seconds if name.startswith("transform")}
    if old.provider and new.provider and old.provider != new.provider:
        told = f"{old.provider} → {new.provider}"
        notes |= {name: told for name in new.worker_seconds if name.startswith("infer")}
    return notes


def _bytes_a_row(record: RunRecord) -> str:
    rows = record.account.rows_in.rows
    return f"{record.bytes_read / rows:,.0f}" if rows else "-"


def _slowest(tasks: pa.Table) -> str:
    """The splits that took longest, with their files."""
    rows = [((row["ended_at"] - row["started_at"]).total_seconds(), row) for row in tasks.to_pylist()]
    found = sorted(rows, key=lambda one: -one[0])[:_SHOWN]
    told = [f"split {row['split']:,} took {seconds:,.1f} s ({_first(row['files'])})" for seconds, row in found]
    return "; ".join(told)


def _first(files: Sequence[str]) -> str:
    names = [path.rpartition("/")[2] for path in files]
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return f"{names[0]}{more}" if names else "files not known"
