"""The receipts of a run as one table: a line a split, with where its rows went and how long each phase took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etl.runs.receipt import Receipt
    from etl.runs.splits import Split

__all__ = ["TASKS", "tasks_table"]

_BATCH = 4096
"""Receipts that are Python values at a time."""

TASKS = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("split", pa.int64(), nullable=False),
        pa.field("attempt", pa.string(), nullable=False),
        pa.field("files", pa.list_(pa.string()), nullable=False),
        pa.field("host", pa.string(), nullable=False),
        pa.field("pid", pa.int64(), nullable=False),
        pa.field("provider", pa.string(), nullable=False),
        pa.field("device_id", pa.int64()),
        pa.field("task_try", pa.int64(), nullable=False),
        pa.field("started_at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("ended_at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("rows_in", pa.int64(), nullable=False),
        pa.field("scored", pa.int64(), nullable=False),
        pa.field("quarantined", pa.int64(), nullable=False),
        pa.field("filtered", pa.int64(), nullable=False),
        pa.field("bytes_read", pa.int64(), nullable=False),
        pa.field("bytes_written", pa.int64(), nullable=False),
        pa.field("peak_rss_bytes", pa.int64(), nullable=False),
        pa.field("seconds", pa.map_(pa.string(), pa.float64()), nullable=False),
        pa.field("waiting", pa.map_(pa.string(), pa.float64()), nullable=False),
    ]
)
"""`task_try` is how often Spark had tried the task before. `seconds` and `waiting` are worker-seconds by phase, of work
and of waiting for another phase; see `Receipt`."""


def tasks_table(receipts: Iterable[Receipt], splits: Iterable[Split]) -> pa.Table:
    """The table, in the order of the receipts, of these splits."""
    files = {split.index: [part.file.path for part in split.ranges] for split in splits}
    batches, rows = [], []
    for receipt in receipts:
        rows.append(_row(receipt, files.get(receipt.split, [])))
        if len(rows) == _BATCH:
            batches.append(pa.RecordBatch.from_pylist(rows, TASKS))
            rows = []
    batches.append(pa.RecordBatch.from_pylist(rows, TASKS))
    return pa.Table.from_batches(batches, TASKS)


def _row(receipt: Receipt, files: list[str]) -> dict[str, Any]:
    account, worker = receipt.account, receipt.worker
    return {
        "run_id": receipt.run_id,
        "split": receipt.split,
        "attempt": receipt.attempt,
        "files": files,
        "host": worker.host,
        "pid": worker.pid,
        "provider": worker.provider,
        "device_id": worker.device_id,
        "task_try": worker.task_try,
        "started_at": receipt.started_at,
        "ended_at": receipt.ended_at,
        "rows_in": account.rows_in.rows,
        "scored": account.scored.rows,
        "quarantined": account.quarantined.rows,
        "filtered": account.filtered.rows,
        "bytes_read": receipt.bytes_read,
        "bytes_written": sum(written.pending.bytes for written in receipt.predictions),
        "peak_rss_bytes": worker.peak_rss_bytes,
        "seconds": list(receipt.seconds.items()),
        "waiting": list(receipt.waiting.items()),
    }
