"""What is known of runs, from what lies in storage: one run whole, or all of them as a table."""

from __future__ import annotations

import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from etl.errors import DocumentError, StorageError
from etl.format.problems import nearest
from etl.runs.layout import Layout, runs_folder, scratch_folder, scratch_root
from etl.runs.storage import storage_for
from etl.runs.store_settings import configure
from jobs.config.job import RUN_ID_PATTERN, JobConfig, read_config
from jobs.config.variables import ANY_DATE
from jobs.errors import Refused, refusing
from jobs.monitoring.collected import Collected, Ending
from jobs.monitoring.trend import RunLine
from jobs.planning.destination import Target
from jobs.planning.plan import Claim, Plan, load_claim, load_plan
from jobs.record import RunRecord, load_record
from jobs.settling.damage import what_is_left
from jobs.settling.decisions import Decision, load_decision
from jobs.settling.receipts import live_receipts, receipts_of

if TYPE_CHECKING:
    from datetime import datetime

    from etl.runs.storage import Storage

__all__ = [
    "UNREADABLE",
    "RunView",
    "config_of",
    "find_run",
    "history",
    "look_at",
    "output_root",
    "quarantined_rows",
    "record_of",
]

UNFINISHED = "UNFINISHED"
"""State of a run that has left no record: it is at work, or it died."""

UNREADABLE = "UNREADABLE"
"""State of a run whose record is damaged, or of another release."""

_THREADS = 16
_FEW_RUNS = 10


class RunView(NamedTuple):
    """Everything that storage knows of a run."""

    target: Target
    claim: Claim | None
    plan: Plan | None
    record: RunRecord | None
    decision: Decision | None
    splits_done: int
    """Splits that have a receipt."""

    @property
    def state(self) -> str:
        """The record's state, or UNFINISHED."""
        return str(self.record.state) if self.record is not None else UNFINISHED


def config_of(where: str, date: datetime | None = ANY_DATE) -> JobConfig | None:
    """The config, where `where` is a config file; None where it is a URI.

    Unless it is that of one run, it is one to look back with over the runs of all dates.
    """
    is_config = where.endswith((".yaml", ".yml")) or ("://" not in where and Path(where).is_file())
    if not is_config:
        return None
    config = read_config(where, date=date)
    configure(config.storage)
    return config


def output_root(where: str) -> tuple[Storage, str]:
    """Store and path of the output root that a config file or a URI names.

    Raises:
        Refused: no store of this release has such a URI.
    """
    config = config_of(where)
    return _store_of(where if config is None else config.output.uri)


def _store_of(uri: str) -> tuple[Storage, str]:
    with refusing():
        return storage_for(uri)


def find_run(where: str, run_id: str | None = None) -> Target:
    """Where a run lies: the one of that id, a trial too, or the newest.

    Raises:
        Refused: there is no such run, or none at all.
    """
    storage, root = output_root(where)
    if run_id is None:
        lines = _newest_first(_lines_of(storage, root))
        if not lines:
            trials = storage.names(scratch_folder(root))
            hint = f" There are trials; name one: {', '.join(trials)}." if trials else ""
            raise Refused(f"{root}: there is no run here.{hint}")
        run_id = lines[0].run_id
    if re.fullmatch(RUN_ID_PATTERN, run_id):
        for place in (root, scratch_root(root, run_id)):
            target = run_at(storage, place, run_id)
            if target is not None:
                return target
    known = [*storage.names(runs_folder(root)), *storage.names(scratch_folder(root))]
    hint = nearest(run_id, known)
    if len(known) > _FEW_RUNS and "Did you mean" not in hint:
        hint = " `batchscore history` lists them."
    raise Refused(f"{root}: there is no run {run_id!r}.{hint}")


def run_at(storage: Storage, root: str, run_id: str) -> Target | None:
    """The run of this id under an output root, which it claimed; None where nobody did."""
    target = Target(storage, Layout(root, run_id))
    claim, plan = load_claim(target), load_plan(target)
    if claim is None:
        return None
    # The first to claim the id may have been refused, and have asked for another place.
    is_hidden = plan.order.shape.is_hidden if plan is not None else claim.is_hidden
    return Target(storage, Layout(root, run_id, is_hidden=is_hidden))


def look_at(target: Target) -> RunView:
    """Read everything that storage knows of a run."""
    return RunView(
        target=target,
        claim=load_claim(target),
        plan=load_plan(target),
        record=record_of(target),
        decision=load_decision(target),
        splits_done=len(live_receipts(target)),
    )


def record_of(target: Target) -> RunRecord | None:
    """The record beside a run; where that cannot be read, the one that was collected of it, with a warning.

    Raises:
        DocumentError, StorageError: it cannot be read, and none was collected that can be.
    """
    storage, layout = target
    try:
        return load_record(storage, layout.record)
    except (DocumentError, StorageError) as error:
        plan = load_plan(target)
        claim = load_claim(target)
        if plan is None or claim is None or plan.metrics_uri is None:
            raise
        ending = Collected.at(plan.metrics_uri).last(claim.job, layout.run_id)
        if ending is None or ending.record is None:
            raise
        warnings.warn(f"{error} What is told is of the record that was collected in {plan.metrics_uri}.", stacklevel=3)
        return ending.record


def history(where: str, job: str | None = None) -> list[RunLine]:
    """Runs, newest first, of one job or of all.

    A config gives the runs of its job: those under its output, unfinished ones too, and those that were collected under
    `metrics.uri` from other places. A URI is an output root, or a folder of collected records.
    """
    config = config_of(where)
    storage, root = _store_of(where if config is None else config.output.uri)
    lines = {line.run_id: line for line in _lines_of(storage, root)}
    if config is None:
        lines = lines or {line.run_id: line for line in _collected(Collected(storage, root), job)}
    else:
        job = job or config.name
        if config.metrics is not None:
            for line in _collected(Collected(*_store_of(config.metrics.uri)), job):
                lines[line.run_id] = _later(lines.get(line.run_id), line)
    return _newest_first([line for line in lines.values() if job in {None, line.job}])


def quarantined_rows(target: Target) -> pa.Table:
    """The rows that a run set aside, whether it is published or not.

    Raises:
        Refused: the run has no plan yet.
    """
    plan = load_plan(target)
    if plan is None:
        raise Refused(f"{target.layout.root}: run {target.layout.run_id} has set no rows aside: it has no plan yet.")
    receipts = receipts_of(target, what_is_left(target, plan).plan)
    paths = [receipt.quarantine.pending.path for receipt in receipts if receipt.quarantine is not None]
    with ThreadPoolExecutor(_THREADS) as threads:
        tables = list(threads.map(partial(_ipc_table, target.storage), paths))
    return pa.concat_tables(tables) if tables else _PLACE_AND_REASON.empty_table()


_PLACE_AND_REASON = pa.schema(
    {
        "file": pa.string(),
        "row": pa.int64(),
        "stage": pa.string(),
        "code": pa.string(),
        "rule": pa.string(),
        "column": pa.string(),
        "message": pa.string(),
    }
)
"""What a quarantine without rows has as well; the preview's columns are those of the model."""


def _ipc_table(storage: Storage, path: str) -> pa.Table:
    with storage.open_input(path) as source:
        return pa.ipc.open_file(source).read_all()


def _lines_of(storage: Storage, root: str) -> list[RunLine]:
    run_ids = storage.names(runs_folder(root))
    with ThreadPoolExecutor(_THREADS) as threads:
        lines = threads.map(lambda run_id: _line(Target(storage, Layout(root, run_id))), run_ids)
        return [line for line in lines if line is not None]


def _line(target: Target) -> RunLine | None:
    storage, layout = target
    try:
        record = load_record(storage, layout.record)
    except (DocumentError, StorageError) as error:
        claim = load_claim(target)
        if claim is None:
            raise
        return _line_of(Ending(claim.job, claim.run_id, claim.claimed_at, None, str(error)))
    if record is not None:
        return RunLine.of_record(record)
    claim = load_claim(target)
    if claim is None:
        return None
    return RunLine(claim.run_id, claim.job, UNFINISHED, claim.claimed_at)


def _collected(collected: Collected, job: str | None) -> list[RunLine]:
    jobs = [job] if job is not None else collected.jobs()
    return [_line_of(ending) for name in jobs for ending in collected.endings(name)]


def _later(beside: RunLine | None, collected: RunLine) -> RunLine:
    """The line of the last ending: that beside the run, where the other one is damaged or was not collected."""
    if beside is None or beside.record is None:
        return collected
    is_older = collected.record is None or collected.record.recorded_at < beside.record.recorded_at
    return beside if is_older else collected


def _line_of(ending: Ending) -> RunLine:
    if ending.record is not None:
        return RunLine.of_record(ending.record)
    warnings.warn(f"run {ending.run_id} of {ending.job}: {ending.problem}", stacklevel=2)
    return RunLine(ending.run_id, ending.job, UNREADABLE, ending.when)


def _newest_first(lines: list[RunLine]) -> list[RunLine]:
    return sorted(lines, key=lambda line: (line.started_at, line.run_id), reverse=True)
