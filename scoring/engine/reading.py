"""The first stage: rows of one split after the other, counted as they come in, without those that are not asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl.arrivals import ORIGIN, check_entry
from etl.runs.read import SplitReader
from scoring.engine.items import End, Rows
from scoring.engine.rebatching import rebatch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from etl.pipeline import Pipeline
    from scoring.engine.attempt import Attempt
    from scoring.engine.items import Item

__all__ = ["read_splits"]


def read_splits(attempts: Iterable[Attempt], pipelines: Sequence[Pipeline]) -> Generator[Item]:
    """The rows of every split, each followed by its end."""
    for attempt in attempts:
        batches = rebatch(_rows(attempt, pipelines), attempt.order.rows_at_once)
        while True:
            batch = None
            with attempt.failing():
                batch = next(batches, None)
            if batch is None or attempt.error is not None:
                break
            yield Rows(attempt, batch)
        yield End(attempt)


def _rows(attempt: Attempt, pipelines: Sequence[Pipeline]) -> Iterator[pa.RecordBatch]:
    """The split's rows that are to be scored; every row is counted as in, the others as filtered."""
    order = attempt.order
    with attempt.clock("read"):
        reader = attempt.reader = SplitReader(attempt.storage, attempt.split)
        origin = [ORIGIN] if order.sources else []
        for pipeline in pipelines:
            check_entry(pipeline.spec, reader.schema, attempt.split.file.path, others=origin, moved=pipeline.moved)
        wanted = dict.fromkeys(column for pipeline in pipelines for column in pipeline.columns)
        columns = [*wanted, *origin]
        attempt.bytes_read = reader.compressed_bytes(columns)
        batches = reader.batches(columns, order.rows_at_once)
    remaining = order.row_limits.get(attempt.split.index, reader.rows)
    while True:
        with attempt.clock("read"):
            batch = next(batches, None)
            if batch is None:
                return
            hashes = attempt.hashes(batch)
            attempt.count("read", "rows_in", hashes)
            keep = _kept(hashes, remaining, order.sample)
            remaining -= batch.num_rows
            if keep is not None:
                attempt.count("read", "filtered", hashes[~keep])
                batch = batch.filter(pa.array(keep))
        yield batch


def _kept(hashes: np.ndarray, remaining: int, sample: float | None) -> np.ndarray | None:
    """Which rows `sample` and `limit` leave; None for all."""
    keep = None
    if sample is not None:
        keep = hashes < np.uint64(min(sample * 2**64, 2**64 - 1))
    if remaining < hashes.size:
        within = np.arange(hashes.size) < remaining
        keep = within if keep is None else keep & within
    return keep
