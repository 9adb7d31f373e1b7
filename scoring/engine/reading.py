"""The first stage: rows of one split after the other, counted as they come in, without those that are not asked for."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl.arrivals import ORIGIN, check_entry
from etl.runs.read import RangeReader
from etl.runs.storage import storage_for
from scoring.engine.items import End, Rows
from scoring.engine.known_keys import is_published
from scoring.engine.rebatching import rebatch
from scoring.memory import TABLE_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Iterator, Sequence

    from etl.contract import Contract, InputField
    from etl.runs.read import Form
    from etl.runs.splits import FileRange
    from scoring.engine.attempt import Attempt
    from scoring.engine.items import Item
    from scoring.engine.modelling import ModelStages
    from scoring.order import Order

__all__ = ["Reading", "shown_fields"]

_MOST_BYTES = 4 * TABLE_BYTES
"""Of a batch, where rows are wider than was planned for."""
_OPENING = 8
"""Small files of a split that are read at a time."""
_TEXT_ROWS = 1 << 10
"""Rows with texts that are decoded at once. A plan reckons the width of a row by the file's footer, which does not tell
how long texts are that lie there once for many rows: 65,536 of 50 kB would be 3 GB. What is short is joined again."""


class Reading:
    """What is read of a split: the columns of all models, of tables and files that have them."""

    def __init__(self, order: Order, models: Sequence[ModelStages]) -> None:
        """Take what the models read; none are given where each is loaded when its rows come."""
        self._order = order
        self._models = models
        made = {column.field.name for model in models for column in model.chained}
        self._origin = [ORIGIN] if order.sources else []
        wanted = [column for model in models for column in model.scorer.pipeline.columns if column not in made]
        if order.routed is not None:
            wanted = list(order.routed.columns)
        self._columns = [*dict.fromkeys([*wanted, *(field.name for field in order.chosen_by)]), *self._origin]
        self._decoded = order.rows_at_once
        """Rows that are decoded at once, of files of the form below."""
        self._checked: Form | None = None
        """The form of the file before, which most often is that of the next one, too."""

    def read(self, attempts: Iterable[Attempt]) -> Generator[Item]:
        """The rows of every split, each followed by its end."""
        for attempt in attempts:
            at_once = self._order.rows_at_once
            batches = self._rows(attempt, rebatch(self._batches(attempt), at_once, most_bytes=_MOST_BYTES))
            if self._order.leaves_out:
                batches = rebatch(batches, at_once, most_bytes=_MOST_BYTES)
            while True:
                batch = None
                with attempt.failing():
                    batch = next(batches, None)
                if batch is None or attempt.error is not None:
                    break
                yield Rows(attempt, batch)
            yield End(attempt)

    def _enter(self, attempt: Attempt, reader: RangeReader) -> RangeReader:
        """The reader, once its columns are what the models read."""
        if reader.form != self._checked:
            for model in self._models:
                schema, pipeline = reader.schema, model.scorer.pipeline
                for column in model.chained:
                    schema = schema.append(column.field)
                check_entry(pipeline.spec, schema, reader.path, others=self._origin, moved=pipeline.moved)
            at_once = self._order.rows_at_once
            self._decoded = min(at_once, _TEXT_ROWS) if reader.has_texts(self._columns) else at_once
            self._checked = reader.form
        attempt.row_groups.meet(reader)
        if reader.is_at_once:
            attempt.read_at_once.add(reader.path)
        attempt.bytes_read += reader.bytes_of(self._columns)
        return reader

    def _batches(self, attempt: Attempt) -> Iterator[pa.RecordBatch]:
        """All rows of the split."""
        for reader in _opened(attempt.split.ranges):
            yield from self._enter(attempt, reader).batches(self._columns, self._decoded)

    def _rows(self, attempt: Attempt, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The split's rows that are to be scored; every row is counted as in, the others as filtered."""
        order = self._order
        remaining = order.row_limits.get(attempt.split.index)
        while True:
            with attempt.clock("read"):
                batch = next(batches, None)
                if batch is None:
                    return
                hashes = attempt.hashes(batch)
                attempt.count("read", "rows_in", hashes)
                keep = _kept(hashes, remaining, order.sample)
                if order.missing_keys is not None:
                    is_new = ~is_published(order, batch)
                    keep = is_new if keep is None else keep & is_new
                if remaining is not None:
                    remaining = max(0, remaining - batch.num_rows)
                if keep is not None:
                    attempt.count("read", "filtered", hashes[~keep])
                    batch = batch.filter(pa.array(keep))
            yield batch


def _opened(ranges: Sequence[FileRange]) -> Iterator[RangeReader]:
    """Readers of a split's ranges; those of another machine, which answers late, are opened side by side."""
    path = ranges[0].file.path
    if len(ranges) == 1 or storage_for(path)[0].local_path(path) is not None:
        yield from map(_reader, itertools.count(), ranges)
        return
    with ThreadPoolExecutor(_OPENING, "batchscore-open") as threads:
        yield from threads.map(_reader, range(len(ranges)), ranges)


def _reader(number: int, part: FileRange) -> RangeReader:
    return RangeReader(storage_for(part.file.path)[0], part, number, at_once=True)


def shown_fields(contracts: Sequence[Contract], made: Collection[str] = ()) -> tuple[InputField, ...]:
    """The fields by which a row that was set aside is shown: those of all contracts but what models `made`.

    Of one name the first, and personal where one of them is.
    """
    fields: dict[str, InputField] = {}
    for contract in contracts:
        for field in contract.fields:
            if field.name not in made:
                first = fields.get(field.name, field)
                fields[field.name] = first.model_copy(update={"pii": first.pii or field.pii})
    return tuple(fields.values())


def _kept(hashes: np.ndarray, remaining: int | None, sample: float | None) -> np.ndarray | None:
    """Which rows `sample` and `limit` leave; None for all."""
    keep = None
    if sample is not None:
        keep = hashes < np.uint64(min(sample * 2**64, 2**64 - 1))
    if remaining is not None and remaining < hashes.size:
        within = np.arange(hashes.size) < remaining
        keep = within if keep is None else keep & within
    return keep
