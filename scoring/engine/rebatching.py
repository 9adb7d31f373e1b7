"""Batches that cross the borders of Arrow batches, row groups and files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["rebatch"]


def rebatch(batches: Iterable[pa.RecordBatch], rows: int, *, most_bytes: int | None = None) -> Iterator[pa.RecordBatch]:
    """The same rows in the same order, in batches of exactly `rows` rows but for the last.

    Slices are views; only a batch that crosses a border is copied. Where the columns change, as from one file to the
    next they may, the last batch of the old ones has fewer rows, too. So has one that would be above `most_bytes`.
    """
    waiting: list[pa.RecordBatch] = []
    have = size = 0
    for batch in batches:
        start = 0
        bytes_ = batch.get_total_buffer_size()  # `nbytes`, which knows what a slice is, takes 50 times as long
        size += bytes_
        is_full = most_bytes is not None and size > most_bytes
        if waiting and (is_full or not batch.schema.equals(waiting[0].schema)):
            yield _joined(waiting)
            waiting, have, size = [], 0, bytes_
        while have + batch.num_rows - start >= rows:
            taken = batch.slice(start, rows - have)
            start += taken.num_rows
            yield _joined([*waiting, taken])
            waiting, have, size = [], 0, 0
        if start < batch.num_rows:
            size = max(size, bytes_)
            waiting.append(batch.slice(start))
            have += batch.num_rows - start
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    return parts[0] if len(parts) == 1 else pa.concat_batches(parts)
