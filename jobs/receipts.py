"""What the receipts of a planned run say together."""

from __future__ import annotations

from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from etl.checks import checked
from etl.expectations import unique_columns
from etl.runs.damage import account_of_damaged
from etl.runs.layout import model_folder
from etl.runs.receipt import SplitAccount, Tally
from etl.runs.voids import latest_generations
from jobs.record import EngineFacts
from scoring.bundles.bundle import audit
from scoring.predictions import Predictions
from scoring.worker import receipt_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    import pyarrow as pa

    from etl.runs.damage import DamagedFile
    from etl.runs.receipt import Receipt
    from etl.runs.splits import Split
    from etl.runs.storage import Storage
    from jobs.destination import Target
    from jobs.plan import Plan

__all__ = ["DAMAGED", "account_of", "live_receipts", "published_schema", "receipts_of", "splits_of", "totals_of"]

DAMAGED = "read/DAMAGED_FILE"
"""The reason of rows whose file was set aside."""
_THREADS = 16


def splits_of(target: Target, plan: Plan) -> tuple[Split, ...]:
    """The splits of a run, each in its latest generation."""
    return latest_generations(target.storage, target.layout, plan.splits)


def live_receipts(target: Target) -> frozenset[str]:
    """Names of the receipts that are there and not void."""
    found = {name for name in target.storage.names(target.layout.receipts) if name.endswith(".json")}
    return frozenset(found.difference(target.storage.names(target.layout.voids)))


def receipts_of(target: Target, plan: Plan) -> list[Receipt]:
    """The receipts of a run's splits, in their order; a split that is not scored has none."""
    with ThreadPoolExecutor(_THREADS) as threads:
        found = threads.map(partial(receipt_of, target.storage, target.layout), splits_of(target, plan))
        return [receipt for receipt in found if receipt is not None]


def account_of(receipts: Iterable[Receipt], damaged: Iterable[DamagedFile] = ()) -> SplitAccount:
    """Where the rows of all these splits went, as their workers said, and those of files that were set aside."""
    total = account_of_damaged(damaged)
    for receipt in receipts:
        total += receipt.account
    return total


def totals_of(
    receipts: list[Receipt], plan: Plan, repeats: Mapping[str, Tally], *, damaged: Iterable[DamagedFile] = ()
) -> dict[str, Any]:
    """The fields of a run record that sum up the receipts of a plan, and the files that were set aside.

    `repeats` are the tallies of `unique` expectations (`jobs.uniqueness`); one that is not there is not told.
    """
    seconds: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    if lost := account_of_damaged(damaged).quarantined.rows:
        reasons[DAMAGED] = lost
    loads: dict[tuple[str, int], int] = {}
    tallies: defaultdict[str, Tally] = defaultdict(Tally, repeats)
    uncounted = unique_columns(plan.expectations).keys() - repeats.keys()
    for receipt in receipts:
        for name, tally in receipt.expectations.items():
            tallies[name] += tally
        seconds.update(receipt.seconds)
        reasons.update(receipt.reasons)
        worker = (receipt.worker.host, receipt.worker.pid)
        loads[worker] = max(loads.get(worker, 0), receipt.worker.loads)
    return {
        "account": account_of(receipts, damaged),
        "reasons": dict(reasons),
        "expectations": checked([one for one in plan.expectations if one.id not in uncounted], tallies),
        "worker_seconds": {phase: round(total, 3) for phase, total in seconds.items()},
        "engine": engine_of(receipts),
        "bytes_read": sum(receipt.bytes_read for receipt in receipts),
        "bytes_written": sum(written.pending.bytes for receipt in receipts for written in receipt.predictions),
        "golden_features_ulp": max(_known(receipt.worker.golden_features_ulp for receipt in receipts), default=None),
        "golden_outputs_abs": max(_known(receipt.worker.golden_outputs_abs for receipt in receipts), default=None),
        "provider": ", ".join(sorted({receipt.worker.provider for receipt in receipts})) or None,
        "fell_back": dict(Counter(receipt.worker.fell_back for receipt in receipts if receipt.worker.fell_back)),
        "workers": len(loads),
        "model_loads": sum(loads.values()),
        "peak_task_bytes": max((receipt.worker.peak_rss_bytes for receipt in receipts), default=None),
    }


def engine_of(receipts: list[Receipt]) -> EngineFacts:
    """What the workers tell of their calls."""
    sums: dict[str, Counter[str]] = {name: Counter() for name in ("waiting", "non_finite", "unscored", "by_model")}
    rows: defaultdict[str, set[int]] = defaultdict(set)
    for receipt in receipts:
        for name in ("waiting", "non_finite", "unscored"):
            sums[name].update(getattr(receipt, name))
        sums["by_model"].update({name: tally.rows for name, tally in receipt.by_model.items()})
    last = {(receipt.worker.host, receipt.worker.pid): receipt for receipt in sorted(receipts, key=_ended)}
    for receipt in last.values():
        for name, facts in receipt.batches.items():
            rows[name].add(facts.rows)
    told = [facts for receipt in receipts for facts in receipt.batches.values()]
    return EngineFacts(
        waiting={phase: round(seconds, 3) for phase, seconds in sums["waiting"].items()},
        batch_rows={name: tuple(sorted(found)) for name, found in rows.items()},
        calls=sum(facts.calls for facts in told),
        out_of_memory=sum(facts.out_of_memory for facts in told),
        contained_rows=sum(receipt.contained_rows for receipt in receipts),
        non_finite=dict(sums["non_finite"]),
        by_model=dict(sums["by_model"]),
        unscored=dict(sums["unscored"]),
    )


def _ended(receipt: Receipt) -> datetime:
    return receipt.ended_at


def _known(values: Iterable[float | None]) -> Iterator[float]:
    return (value for value in values if value is not None)


def published_schema(storage: Storage, plan: Plan) -> pa.Schema:
    """Columns that a planned run publishes, from its own copies of the bundles; loads no model."""
    folders = [model_folder(plan.order.root, model.bundle_sha256) for model in plan.order.models]
    return Predictions(plan.order, tuple(audit(storage, folder) for folder in folders)).schema
