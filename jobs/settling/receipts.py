"""What the receipts of a planned run say together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from etl.runs.damage import account_of_damaged
from etl.runs.layout import model_folder
from etl.runs.packed import PackedReceipts, pack
from etl.runs.voids import latest_generations
from scoring.bundles.bundle import audit
from scoring.predictions import Predictions

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from etl.runs.damage import DamagedFile
    from etl.runs.receipt import Receipt, SplitAccount
    from etl.runs.splits import Split
    from etl.runs.storage import Storage
    from jobs.planning.destination import Target
    from jobs.planning.plan import Plan

__all__ = ["account_of", "live_receipts", "published_schema", "receipts_of", "splits_of"]

_THREADS = 16


def splits_of(target: Target, plan: Plan) -> tuple[Split, ...]:
    """The splits of a run, each in its latest generation."""
    return latest_generations(target.storage, target.layout, plan.splits)


def live_receipts(target: Target) -> frozenset[str]:
    """Names of the receipts that are there and not void."""
    found = {name for name in target.storage.names(target.layout.receipts) if name.endswith(".json")}
    return frozenset(found.difference(target.storage.names(target.layout.voids)))


def receipts_of(target: Target, plan: Plan) -> PackedReceipts:
    """The receipts of a run's splits, in their order; a split that is not scored has none."""
    storage, layout = target
    paths = [layout.receipt(split.name) for split in splits_of(target, plan)]

    def read(path: str) -> tuple[str, bytes] | None:
        data = storage.read_bytes(path)
        return (path, pack(data)) if data is not None else None

    with ThreadPoolExecutor(_THREADS) as threads:
        return PackedReceipts(found for found in threads.map(read, paths) if found is not None)


def account_of(receipts: Iterable[Receipt], damaged: Iterable[DamagedFile] = ()) -> SplitAccount:
    """Where the rows of all these splits went, as their workers said, and those of files that were set aside."""
    total = account_of_damaged(damaged)
    for receipt in receipts:
        total += receipt.account
    return total


def published_schema(storage: Storage, plan: Plan) -> pa.Schema:
    """Columns that a planned run publishes, from its own copies of the bundles; loads no model."""
    folders = [model_folder(plan.order.root, model.bundle_sha256) for model in plan.order.models]
    return Predictions(plan.order, tuple(audit(storage, folder) for folder in folders)).schema
