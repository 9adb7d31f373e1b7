"""Pinned Parquet files as a Spark DataFrame, read by the worker's own reader.

Spark's reader would see other values than a worker does: it refuses instants in ns and dates before 1900 in some
releases, invents columns from the names of folders, takes brackets in a path for a pattern, gives null where a file
lacks a column, and knows nothing of pins. So tasks read the splits as workers do, and hand the columns to Spark in the
types that hold their values: unsigned integers in the next wider type (uint64 as decimal), instants in µs, floored.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from etl.arrivals import ORIGIN
from etl.errors import ContractError
from etl.runs.read import ROW, RangeReader, RowGroups, open_parquet
from etl.runs.splits import cut_splits, group_splits
from etl.runs.storage import storage_for
from etl.spark.batches import map_batches
from etl.spark.schema import as_declared
from etl.types import UNSIGNED, ColumnType, canonical, is_bytes, one_chunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from etl.runs.splits import InputFile, Split
    from etl.types import ArrowArray

__all__ = ["Cuts", "held_type", "read_files"]

_THREADS = 16
_ROWS = 1 << 14

_INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), UNSIGNED)
"""Each holds the values of those before it."""

_ORIGIN = pa.struct({"file": pa.int32(), "row_group": pa.int32(), "first_row": pa.int64(), "row": pa.int64()})

_WIDER = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): UNSIGNED}
_AS_IT_IS = (pa.types.is_boolean, pa.types.is_float32, pa.types.is_float64, pa.types.is_null)
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


class Cuts(NamedTuple):
    """How files are cut into tasks."""

    split_bytes: int
    """Size of a split."""
    task_bytes: int
    """Input of a task; small files share one."""
    parallelism: int
    """Tasks that run at once."""


def read_files(
    spark: SparkSession, files: tuple[InputFile, ...], names: Sequence[str], *, cuts: Cuts, with_origin: bool = False
) -> DataFrame:
    """The named columns of pinned files, and on demand `ORIGIN` behind them; lazy, as Spark is.

    Raises:
        ContractError: a file lacks a column, or has one of a type that Spark cannot hold, or that no other file's goes
            with; the message names file and column.
        InputChanged, ReadError: see `etl.runs.read.open_parquet`.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        schemas = list(threads.map(_schema_of, files))
    fields = [pa.field(name, _common_type(name, files, schemas)) for name in names]
    numbered = {file.path: number for number, file in enumerate(files)} if with_origin else None
    declared = pa.schema([*fields, pa.field(ORIGIN, _ORIGIN)] if with_origin else fields)
    splits = cut_splits(files, cuts.split_bytes)
    tasks = group_splits(splits, task_bytes=cuts.task_bytes, parallelism=cuts.parallelism)
    numbers = spark.range(0, len(tasks), 1, len(tasks))
    read = functools.partial(_read, tasks=tasks, declared=declared, numbered=numbered)
    return map_batches(numbers, ["id"], read, declared=declared)


def _schema_of(file: InputFile) -> pa.Schema:
    storage, _ = storage_for(file.path)
    return open_parquet(storage, file).schema_arrow


def held_type(found: pa.DataType) -> pa.DataType | None:  # noqa: PLR0911  one for each kind of type
    """The type in which Spark holds a column's values; None where it has none."""
    if isinstance(found, pa.DictionaryType):
        return held_type(found.value_type)
    if any(is_text(found) for is_text in _TEXTS):
        return pa.string()
    if is_bytes(found):
        return pa.binary()
    if pa.types.is_timestamp(found):
        return pa.timestamp("us", "UTC")
    if pa.types.is_date(found):
        return pa.date32()
    if pa.types.is_float16(found):
        return pa.float32()
    if isinstance(found, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        item = _nested_type(found.value_type)
        return None if item is None else pa.list_(item)
    if isinstance(found, pa.StructType):
        fields = [(field.name, _nested_type(field.type)) for field in found]
        known = [pa.field(name, kind) for name, kind in fields if kind is not None]
        return pa.struct(known) if len(known) == len(fields) else None
    found = _WIDER.get(found, found)
    is_held = found in _INTEGERS or pa.types.is_decimal128(found) or any(is_kind(found) for is_kind in _AS_IT_IS)
    return found if is_held else None


def _nested_type(found: pa.DataType) -> pa.DataType | None:
    """As `held_type`; inside a list or struct an instant must be in µs already."""
    return None if pa.types.is_timestamp(found) and found.unit != "us" else held_type(found)


def _common_type(name: str, files: Sequence[InputFile], schemas: Sequence[pa.Schema]) -> pa.DataType:
    """One type that holds the column of every file.

    Raises:
        ContractError: there is none.
    """
    common = pa.null()
    for file, schema in zip(files, schemas, strict=True):
        if schema.get_field_index(name) < 0:
            message = f"{file.path}: column {name!r} is not there, as it is in other files."
            raise ContractError(message)
        found = schema.field(name).type
        kind = held_type(found)
        if kind is None:
            message = f"{file.path}: column {name!r} is {found}, which relational steps cannot take through Spark."
            raise ContractError(message)
        wider = _wider(common, kind)
        if wider is None:
            message = f"{file.path}: column {name!r} is {found}, in files before it {common}. Write them alike."
            raise ContractError(message)
        common = wider
    # A column of nothing but nulls has no type of its own; every contract reads null as what it wants.
    return pa.string() if pa.types.is_null(common) else common


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that holds the values of both; None where there is none."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if one in _INTEGERS and other in _INTEGERS:
        return max(one, other, key=_INTEGERS.index)
    return pa.float64() if {one, other} == {pa.float32(), pa.float64()} else None


def _read(
    batches: Iterable[pa.RecordBatch],
    *,
    tasks: tuple[tuple[Split, ...], ...],
    declared: pa.Schema,
    numbered: dict[str, int] | None,
) -> Iterator[pa.RecordBatch]:
    """Runs on a worker; with the numbers of the files by their paths, it gives `ORIGIN` too."""
    names = declared.names if numbered is None else declared.names[:-1]
    for batch in batches:
        for number in batch.column("id").to_pylist():
            for part in (part for split in tasks[number] for part in split.ranges):
                path = part.file.path
                reader = RangeReader(storage_for(path)[0], part, at_once=True)
                groups = RowGroups()
                groups.meet(reader)
                for rows in reader.batches(names, _ROWS):
                    columns = {name: _held(rows.column(name), name, path) for name in names}
                    if numbered is not None:
                        columns[ORIGIN] = _origin(rows, groups, numbered[path])
                    yield as_declared(columns, declared)


def _origin(rows: pa.RecordBatch, row_groups: RowGroups, number: int) -> pa.StructArray:
    index = rows.column(ROW)
    groups, starts = row_groups.of(index.to_numpy())
    file = pa.repeat(pa.scalar(number, pa.int32()), len(index))
    return pa.StructArray.from_arrays([file, pa.array(groups), pa.array(starts), index], fields=list(_ORIGIN))


def _held(column: ArrowArray, name: str, path: str) -> ArrowArray:
    column = one_chunk(column)
    if isinstance(column.type, pa.DictionaryType):
        column = column.dictionary_decode()
    if not pa.types.is_timestamp(column.type):
        return column
    try:
        return canonical(column, ColumnType("timestamp"))
    except pa.ArrowInvalid as error:
        message = f"{path}: column {name!r} holds an instant so far away that µs cannot tell it."
        raise ContractError(message) from error
