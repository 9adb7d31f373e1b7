"""Where a row of a run's input is: by the value of its key, or by its file and its index in it; and the row itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.arrivals import ORIGIN
from etl.errors import InputChanged
from etl.format.problems import nearest
from etl.printable import counted
from etl.runs.read import ROW, RangeReader, open_parquet, place_in, read_row_group
from etl.runs.splits import FileRange, InputFile, Split
from etl.runs.storage import storage_for
from etl.types import workable
from jobs.errors import Refused
from jobs.settling.damage import what_is_left
from jobs.settling.receipts import splits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.planning.destination import Target
    from jobs.planning.plan import Plan

__all__ = ["ByKey", "ByPlace", "RowPlace", "find_row", "origin_of", "place_of", "read_row"]

_THREADS = 16
_SHOWN = 5


class ByKey(NamedTuple):
    """The row that has a value in a column."""

    text: str
    """The value, as text."""
    column: str | None = None
    """None for the first column of the input that is published."""


class ByPlace(NamedTuple):
    """A row of a file, as a quarantined row's reference gives it."""

    file: str
    """Its path, or the end of it."""
    row: int
    """Index in the file, from 0."""


class RowPlace(NamedTuple):
    """Where a worker read the row."""

    file: InputFile
    row: int
    split: Split
    part: int
    """Number of the file's range in the split."""
    group: int
    """Number of the row group in the file."""
    first_row: int
    """Index in the file of that group's first row."""


def find_row(target: Target, plan: Plan, named: ByKey | ByPlace) -> RowPlace:
    """Where a worker read the row that is meant."""
    left = what_is_left(target, plan)
    splits = splits_of(target, left.plan)
    if isinstance(named, ByKey):
        return _placed(splits, *_of_key(plan, named))
    file = _file_of(plan, named.file)
    if plan.order.sources:
        return _placed(splits, *_prepared(plan, file, named.row))
    return _placed(splits, file, named.row)


def _placed(splits: tuple[Split, ...], file: InputFile, row: int) -> RowPlace:
    rows = 0
    for split in splits:
        for number, part in enumerate(split.ranges):
            if part.file != file:
                continue
            for group in RangeReader(storage_for(file.path)[0], part).row_groups:
                rows += group.rows
                if group.first_row <= row < group.first_row + group.rows:
                    return RowPlace(file, row, split, number, group.number, group.first_row)
    if not rows:
        raise Refused(f"{file.path}: the run was to score none of its rows, or set it aside as damaged.")
    raise Refused(
        f"{file.path}: there is no row {row} that the run was to score; of the file it has {counted(rows, 'row')}."
    )


def _file_of(plan: Plan, name: str) -> InputFile:
    """The one pinned file of this path, or whose path ends so."""
    files = plan.sources or plan.inputs
    found = [file for file in files if file.path == name] or [
        file for file in files if file.path.endswith(f"/{name.lstrip('/')}")
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise Refused(f"{name} may be {_listed([file.path for file in found])}. Give more of the path.")
    raise Refused(
        f"{name} is none of the {counted(len(files), 'file')} of the run.{nearest(name, [f.path for f in files])}"
    )


def _of_key(plan: Plan, named: ByKey) -> tuple[InputFile, int]:
    """The one row of the input with this key."""
    column = named.column or next(iter(plan.order.passthrough), None)
    if column is None:
        raise Refused("the run publishes no column of its input, so a row has no key. Name a column by --key.")
    with ThreadPoolExecutor(_THREADS) as threads:
        rows = list(threads.map(partial(_rows_with, column=column, text=named.text), plan.inputs))
    found = [(file, row) for file, some in zip(plan.inputs, rows, strict=True) for row in some]
    if not found:
        raise Refused(f"no row of the run's {len(plan.inputs):,} input files has {column} = {named.text}.")
    if len(found) > 1:
        places = _listed([f"{file.path}:{row}" for file, row in found])
        raise Refused(f"{len(found):,} rows have {column} = {named.text}: {places}. Name one by --at.")
    return found[0]


def _rows_with(file: InputFile, column: str, text: str) -> list[int]:
    """Indexes of a file's rows with this value."""
    parquet = open_parquet(storage_for(file.path)[0], file)
    if column not in parquet.schema_arrow.names:
        raise Refused(f"{file.path}: there is no column {column!r}.{nearest(column, parquet.schema_arrow.names)}")
    values = parquet.read([column]).column(0).combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    try:
        wanted = pa.scalar(text).cast(values.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise Refused(f"column {column!r} of {file.path} is of type {values.type}, and {text!r} is none.") from None
    found: list[int] = pc.indices_nonzero(pc.equal(values, wanted).fill_null(False)).to_pylist()  # noqa: FBT003  Arrow's
    return found


def _prepared(plan: Plan, source: InputFile, row: int) -> tuple[InputFile, int]:
    """Where the row of a job's file lies among the rows that Spark prepared."""
    number = plan.order.sources.index(source)
    for file in plan.inputs:
        origin = _open_prepared(file).read([ORIGIN]).column(0).combine_chunks()
        is_it = pc.and_(
            pc.equal(pc.struct_field(origin, "file"), number), pc.equal(pc.struct_field(origin, "row"), row)
        )
        found = pc.indices_nonzero(is_it).to_pylist()
        if found:
            return file, found[0]
    raise Refused(f"{source.path}: no prepared row comes from row {row}: relational steps left it out, or it is none.")


def _open_prepared(file: InputFile) -> Any:
    try:
        return open_parquet(storage_for(file.path)[0], file)
    except InputChanged as error:
        message = f"the rows that Spark prepared for the run are gone, so none can be looked at: {error}"
        raise Refused(message) from error


def place_of(file: InputFile, row: int) -> RowPlace:
    """A row of a file that is in no split."""
    part = FileRange(file=file, start=0, end=file.bytes)
    return _placed((Split(index=0, ranges=(part,)),), file, row)


def read_row(place: RowPlace, columns: Sequence[str]) -> pa.RecordBatch:
    """The row, with its place, as a worker reads it."""
    storage, _ = storage_for(place.file.path)
    table = pa.Table.from_batches(read_row_group(storage, place.file, place.group, columns=columns))
    [batch] = table.slice(place.row - place.first_row, 1).combine_chunks().to_batches()
    numbers = place_in(np.array([place.part]), np.array([place.row]))
    return workable(batch.append_column(ROW, pa.array(numbers)))


def origin_of(plan: Plan, place: RowPlace, batch: pa.RecordBatch) -> tuple[InputFile, int]:
    """The row's place in the job's own files."""
    if not plan.order.sources:
        return place.file, place.row
    origin = batch.column(ORIGIN).to_pylist()[0]
    return plan.order.sources[origin["file"]], origin["row"]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
