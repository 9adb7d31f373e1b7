"""What the receipts of a run say together, in one pass: a driver holds them packed, and to read one takes time."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from etl.checks import checked
from etl.expectations import unique_columns
from etl.printable import counted
from etl.runs.damage import account_of_damaged
from etl.runs.receipt import Tally
from jobs.config.budgets import Budget
from jobs.record import EngineFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from etl.runs.damage import DamagedFile
    from etl.runs.receipt import Receipt, SplitAccount
    from jobs.config.job import JobConfig
    from jobs.planning.plan import Plan

__all__ = ["DAMAGED", "over_budget", "totals_of"]

DAMAGED = "read/DAMAGED_FILE"
"""The reason of rows whose file was set aside."""

_SUMMED = ("seconds", "reasons", "waiting", "non_finite", "unscored")
"""Counts by name, in receipts."""


class _Worker(NamedTuple):
    """A process, as its last receipt tells."""

    ended_at: datetime
    loads: int
    rows: dict[str, int]
    """Of a call, by how the model was called."""


class _Totals:
    """What was added up so far."""

    def __init__(self, account: SplitAccount) -> None:
        self.account = account
        self.sums: dict[str, Counter[str]] = {
            name: Counter() for name in (*_SUMMED, "by_model", "fell_back", "scalars")
        }
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self.workers: dict[tuple[str, int], _Worker] = {}
        self.providers: set[str] = set()
        self.largest: dict[str, float] = {}

    def add(self, receipt: Receipt) -> None:
        """Another split."""
        self.account += receipt.account
        for name in _SUMMED:
            self.sums[name].update(getattr(receipt, name))
        self.sums["by_model"].update({name: tally.rows for name, tally in receipt.by_model.items()})
        for name, tally in receipt.expectations.items():
            self.tallies[name] += tally
        batches = receipt.batches.values()
        self.sums["scalars"].update(
            {
                "bytes_read": receipt.bytes_read,
                "bytes_written": sum(written.pending.bytes for written in receipt.predictions),
                "contained_rows": receipt.contained_rows,
                "calls": sum(facts.calls for facts in batches),
                "out_of_memory": sum(facts.out_of_memory for facts in batches),
            }
        )
        self._add_worker(receipt)

    def _add_worker(self, receipt: Receipt) -> None:
        worker = receipt.worker
        self.providers.add(worker.provider)
        if worker.fell_back:
            self.sums["fell_back"][worker.fell_back] += 1
        for name in ("golden_features_ulp", "golden_outputs_abs", "peak_rss_bytes"):
            value = getattr(worker, name)
            if value is not None:
                self.largest[name] = max(value, self.largest.get(name, value))
        rows = {name: facts.rows for name, facts in receipt.batches.items()}
        now, key = _Worker(receipt.ended_at, worker.loads, rows), (worker.host, worker.pid)
        before = self.workers.get(key, now)
        last = now if now.ended_at >= before.ended_at else before
        self.workers[key] = last._replace(loads=max(before.loads, now.loads))

    def engine(self) -> EngineFacts:
        """What the workers tell of their calls."""
        rows: defaultdict[str, set[int]] = defaultdict(set)
        for worker in self.workers.values():
            for name, count in worker.rows.items():
                rows[name].add(count)
        scalars = self.sums["scalars"]
        return EngineFacts(
            waiting={phase: round(seconds, 3) for phase, seconds in self.sums["waiting"].items()},
            batch_rows={name: tuple(sorted(found)) for name, found in rows.items()},
            calls=scalars["calls"],
            out_of_memory=scalars["out_of_memory"],
            contained_rows=scalars["contained_rows"],
            non_finite=dict(self.sums["non_finite"]),
            by_model=dict(self.sums["by_model"]),
            unscored=dict(self.sums["unscored"]),
        )


def totals_of(
    receipts: Iterable[Receipt], plan: Plan, repeats: Mapping[str, Tally], *, damaged: Iterable[DamagedFile] = ()
) -> dict[str, Any]:
    """The fields of a run record that sum up the receipts of a plan, and the files that were set aside.

    `repeats` are the tallies of `unique` expectations (`jobs.settling.uniqueness`); one that is not there is not told.
    """
    totals = _Totals(account_of_damaged(damaged))
    lost = totals.account.quarantined.rows
    for receipt in receipts:
        totals.add(receipt)
    if lost:
        totals.sums["reasons"][DAMAGED] += lost
    uncounted = unique_columns(plan.expectations).keys() - repeats.keys()
    tallies = defaultdict(Tally, {**totals.tallies, **repeats})
    return {
        "account": totals.account,
        "reasons": dict(totals.sums["reasons"]),
        "expectations": checked([one for one in plan.expectations if one.id not in uncounted], tallies),
        "worker_seconds": {phase: round(total, 3) for phase, total in totals.sums["seconds"].items()},
        "engine": totals.engine(),
        "bytes_read": totals.sums["scalars"]["bytes_read"],
        "bytes_written": totals.sums["scalars"]["bytes_written"],
        "golden_features_ulp": totals.largest.get("golden_features_ulp"),
        "golden_outputs_abs": totals.largest.get("golden_outputs_abs"),
        "provider": ", ".join(sorted(totals.providers)) or None,
        "fell_back": dict(totals.sums["fell_back"]),
        "workers": len(totals.workers),
        "model_loads": sum(worker.loads for worker in totals.workers.values()),
        "peak_task_bytes": totals.largest.get("peak_rss_bytes"),
    }


def over_budget(config: JobConfig, reasons: dict[str, int], account: SplitAccount) -> list[str]:
    """A sentence for each stage that set more rows aside than its budget allows."""
    by_stage: Counter[str] = Counter()
    for reason, rows in reasons.items():
        if reason != DAMAGED:
            by_stage[reason.partition("/")[0]] += rows
    found = []
    for stage, rows in sorted(by_stage.items()):
        budget = getattr(config.budgets, stage)
        if not budget.allows(rows, account.rows_in.rows):
            most = budget.model_dump_json(exclude_none=True) if budget != Budget() else "0 rows"
            found.append(f"{counted(rows, 'row was', 'rows were')} quarantined by stage {stage}, its budget is {most}")
    return found
