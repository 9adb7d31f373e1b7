"""The scores of a run, from a bounded sample of what it published, or holds back."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import BatchscoreError
from etl.runs.partitions import partition_values
from jobs.column_types import arrow_of
from jobs.record import RunState
from jobs.report.distributions import Distribution, distribution_of, is_countable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.runs.receipt import Written
    from jobs.planning.destination import Target
    from jobs.planning.plan import Plan

__all__ = ["MOST_FILES", "MOST_ROWS", "Scores", "scores_of"]

MOST_ROWS = 100_000
"""Rows that are looked at."""
MOST_FILES = 16
"""Files that are opened."""
_GROUPS = 4
"""Row groups that are read of a file, of 32 MiB at most."""
_COLUMNS = 12
_THREADS = 4


class Scores(NamedTuple):
    """Distributions, and what they are of."""

    columns: tuple[Distribution, ...] = ()
    rows: int = 0
    """Rows that were looked at."""
    of_rows: int = 0
    """Rows that the run scored, as far as their files are known."""
    files: int = 0
    of_files: int = 0
    notes: tuple[str, ...] = ()
    """What is missing, and why; each a sentence."""


class _Chosen(NamedTuple):
    """A file, and how many of its rows are looked at."""

    written: Written
    rows: int

    def path(self, *, is_published: bool) -> str:
        """Where it lies: a file that waits for its publication has another name."""
        return self.written.pending.path if is_published else self.written.pending.upload


def scores_of(target: Target, plan: Plan, predictions: Sequence[Written], *, state: RunState, until: float) -> Scores:
    """Of files of predictions; no further file is opened after the time `until`, of `time.monotonic`."""
    files = [one for one in predictions if one.rows]
    if not state.is_published and state is not RunState.HELD_BACK:
        return Scores(notes=(f"The run is {state}, so it has no predictions.",) if files else ())
    if not state.is_published and any(one.pending.parts for one in files):
        return Scores(notes=("What a run holds back in this store are uploads, which nobody can read.",))
    others = (*plan.order.passthrough, *plan.order.stamps)
    schema = pa.schema([pa.field(one.name, arrow_of(one.type)) for one in plan.columns if one.name not in others])
    countable = [field.name for field in schema if is_countable(field.type)]
    wanted = pa.schema([schema.field(name) for name in countable[:_COLUMNS]])
    tables, notes = _read(target, _choose(files), wanted, is_published=state.is_published, until=until)
    left_out = [field.name for field in schema if field.name not in wanted.names]
    if left_out:
        notes.append(f"Left out: {', '.join(left_out[:_COLUMNS])}{' and more' if len(left_out) > _COLUMNS else ''}.")
    of_rows = sum(one.rows for one in files)
    if not tables:
        return Scores(of_rows=of_rows, of_files=len(files), notes=tuple(notes))
    table = pa.concat_tables(tables)
    columns = tuple(distribution_of(name, table.column(name)) for name in wanted.names)
    return Scores(columns, table.num_rows, of_rows, len(tables), len(files), tuple(notes))


def _choose(files: Sequence[Written]) -> list[_Chosen]:
    """Files by their rows, so that each row of the run is as likely to be looked at as any other."""
    total = sum(one.rows for one in files)
    if total <= MOST_ROWS and len(files) <= MOST_FILES:
        return [_Chosen(one, one.rows) for one in files]
    if len(files) <= MOST_FILES:
        return [_Chosen(one, max(1, one.rows * MOST_ROWS // total)) for one in files]
    ends = np.cumsum([one.rows for one in files])
    places = (np.arange(MOST_FILES) + 0.5) * (total / MOST_FILES)
    numbers, times = np.unique(np.searchsorted(ends, places), return_counts=True)
    each = MOST_ROWS // MOST_FILES
    return [_Chosen(files[n], each * count) for n, count in zip(numbers.tolist(), times.tolist(), strict=True)]


def _read(
    target: Target, chosen: Sequence[_Chosen], wanted: pa.Schema, *, is_published: bool, until: float
) -> tuple[list[pa.Table], list[str]]:
    """Tables of those files that could be read in time, and what became of the others."""

    def read(one: _Chosen) -> pa.Table | str:
        if time.monotonic() > until:
            return "time"
        try:
            with target.storage.open_input(one.path(is_published=is_published)) as source:
                return _table(source, one, wanted)
        except (BatchscoreError, OSError):
            return "gone"

    if not wanted.names:
        return [], []
    with ThreadPoolExecutor(_THREADS) as threads:
        found = list(threads.map(read, chosen))
    told = {"time": "were not read for want of time", "gone": "cannot be read any more"}
    notes = [f"{found.count(why):,} files {what}." for why, what in told.items() if why in found]
    return [one for one in found if not isinstance(one, str)], notes


def _table(source: pa.NativeFile, one: _Chosen, wanted: pa.Schema) -> pa.Table:
    """Rows of one file, evenly spread over some of its row groups."""
    named = partition_values(one.written.partition, wanted)
    file = pq.ParquetFile(source)
    groups = file.num_row_groups
    taken = np.unique(np.linspace(0, groups - 1, min(groups, _GROUPS if one.rows < one.written.rows else groups)))
    names = [name for name in wanted.names if name not in named]
    table = file.read_row_groups(taken.astype(int).tolist(), columns=names, use_threads=False)
    there = table.num_rows if names else min(one.rows, file.metadata.num_rows)
    if there > one.rows:
        rows = np.linspace(0, there - 1, one.rows).astype(np.int64)
        table, there = table.take(pa.array(rows)), one.rows
    columns = [pa.repeat(named[name], there) if name in named else table.column(name) for name in wanted.names]
    return pa.Table.from_arrays(columns, names=wanted.names).cast(wanted)
