"""Small inputs, receipts and runs, made without the code that is tried: digests come from the xxhash library."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from etl.runs.local import LocalStorage
from etl.runs.receipt import Receipt, RowTally, SplitAccount, WorkerFacts, Written
from etl.runs.splits import FileRange, InputFile, Split, cut_splits

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from etl.runs.layout import Layout
    from etl.runs.storage import Storage

STORE = LocalStorage()
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
MASK = (1 << 64) - 1
PREDICTIONS = pa.schema([("id", pa.int64()), ("p", pa.float32())])
"""Schema of the files that `make_run` writes."""


def seed_of(path: str) -> int:
    """Seed of a file, by the xxhash library."""
    data = path.encode()
    seed = len(data)
    for start in range(0, len(data), 8):
        seed = xxhash.xxh64_intdigest(data[start : start + 8].ljust(8, b"\0"), seed)
    return seed


def tally(path: str, rows: Iterable[int]) -> RowTally:
    """Rows of a file, by index, as a receipt counts them."""
    rows = list(rows)
    seed = seed_of(path)
    total = sum(xxhash.xxh64_intdigest(row.to_bytes(8, "little"), seed) for row in rows)
    return RowTally(rows=len(rows), digest=f"{total & MASK:016x}")


def pin(path: Path) -> InputFile:
    """A file as it is now."""
    found = STORE.stat(str(path))
    assert found is not None
    return found


def whole(path: Path, index: int = 0) -> Split:
    """A file as one split."""
    file = pin(path)
    return Split(index=index, ranges=(FileRange(file=file, start=0, end=file.bytes),))


def write_groups(path: Path, sizes: Sequence[int]) -> pa.Table:
    """A Parquet file with row groups of these sizes, 0 among them; all its rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    total = sum(sizes)
    table = pa.table(
        {
            "id": pa.array(range(total), pa.int64()),
            "name": pa.array([f"name {number % 7}" if number % 5 else None for number in range(total)]),
            "vector": pa.array([[number, number / 2] for number in range(total)], pa.list_(pa.float32())),
        }
    )
    with pq.ParquetWriter(path, table.schema) as writer:
        start = 0
        for size in sizes:
            writer.write_table(table.slice(start, size), row_group_size=max(1, size))
            start += size
    return table


def receipt_of(
    split: Split,
    *,
    scored: Collection[int] = (),
    quarantined: Collection[int] = (),
    filtered: Collection[int] = (),
    rows_in: Collection[int] | None = None,
) -> Receipt:
    """A receipt that says where rows of the split's file went, by index; its files are names only."""
    path = split.ranges[0].file.path
    account = SplitAccount(
        rows_in=tally(path, [*scored, *quarantined, *filtered] if rows_in is None else rows_in),
        scored=tally(path, scored),
        quarantined=tally(path, quarantined),
        filtered=tally(path, filtered),
    )
    return Receipt(
        run_id="run",
        split=split.index,
        attempt="0123456789ab",
        account=account,
        predictions=tuple(filter(None, [_named("predictions", len(scored))])),
        quarantine=_named("quarantine", len(quarantined)),
        reasons={"contract/MISSING": len(quarantined)} if quarantined else {},
        seconds={"read": 0.25},
        bytes_read=split.bytes,
        started_at=NOON,
        ended_at=NOON,
        worker=WorkerFacts(host="host", pid=1, code="0" * 16, provider="CPU", loads=1, peak_rss_bytes=1),
    )


def _named(name: str, rows: int) -> Written | None:
    pending = {"path": name, "upload": f".{name}", "bytes": 1, "sha256": "0" * 64}
    return Written.model_validate({"pending": pending, "rows": rows}) if rows else None


def make_run(storage: Storage, layout: Layout, *, files: int = 3, rows: int = 2) -> list[Receipt]:
    """The receipts of a scored run with pending files of predictions, and one split that scored nothing."""
    source = InputFile(path="/in/part.parquet", bytes=1000 * (files + 1), etag="etag")
    splits = cut_splits((source,), 1000)
    receipts = [receipt_of(splits[files], filtered=range(files * rows, files * rows + 5))]
    for split in splits[:files]:
        first = split.index * rows
        table = pa.table({"id": range(first, first + rows), "p": [0.5] * rows}, PREDICTIONS)
        writer = storage.begin(layout.part(split.name, layout.run_id))
        pq.write_table(table, cast("Any", writer))
        receipt = receipt_of(split, scored=range(first, first + rows))
        receipts.append(receipt.model_copy(update={"predictions": (Written(pending=writer.finish(), rows=rows),)}))
    return receipts
