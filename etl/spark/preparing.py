"""`prepare`: the relational steps of a spec that run on the whole table, carried out in Spark.

Spark brings the rows of a group together (a shuffle by the keys, sorted within partitions, so that it spills to disk
where it must); each group is then worked on by the code that `etl.relational.prepare` runs in memory. So the two give
the same rows to the bit, and neither the session's time zone nor its ANSI mode can change one. Steps with the same keys
share a shuffle. A task holds the groups that it works on in memory, at least one whole group; rows with a missing key
are in no group, and held in no number.

A reference table that is given as a DataFrame is joined by Spark itself (`etl.spark.joining`). Where such a join stands
behind the last step that needs other rows, it is moved to the table, and with it each join that makes its keys.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from etl.arrivals import ORIGIN, REJECTED, unmatched
from etl.errors import ContractError, SpecError
from etl.given import is_spark_frame
from etl.ops.lookup import LookupJoin
from etl.ops.relations import joins, moved_to_table, on_table, unmovable
from etl.ops.tables import TableStep
from etl.relational import Counts, TablePart, check_new_names, used_references
from etl.runs.read import open_parquet
from etl.runs.storage import storage_for
from etl.spark.batches import map_batches, need_frame
from etl.spark.freeze import storing
from etl.spark.joining import joined, with_nothing
from etl.spark.schema import arrow_schema, arrow_type, as_declared, column
from etl.types import one_chunk

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from pyspark.sql import DataFrame

    from etl.runs.splits import InputFile
    from etl.spec import Spec

__all__ = ["LEFT_OUT", "Frozen", "References", "frames_of", "freeze_prepared", "marked", "moved_joins", "prepare"]

WHERE = "the DataFrame"
"""How errors call what is prepared."""

LEFT_OUT = "__batchscore_left_out"
"""The column that says of a row that is left out by what: it is there to be counted, and all else in it is null."""

_OUTCOME = "batchscore_outcome"
"""The column by which frozen rows are put into folders."""

_KEPT = "kept"

_ROWS = 1 << 17
"""Rows that a task gathers before it works on the groups that are complete."""


References: TypeAlias = "Mapping[str, Any]"
"""Reference tables by name: an Arrow table or pandas frame is joined by workers, a Spark DataFrame by Spark."""


def prepare(
    df: DataFrame, spec: Spec, references: References | None = None, *, others: Sequence[str] = ()
) -> DataFrame:
    """The DataFrame behind the relational steps that run on the table: its columns, then those that the steps made.

    Lazy, as Spark is, but that keys of a reference that is a DataFrame are looked at first. What the steps mean, and
    how it goes on, is said at `etl.relational`. A spec without such steps gives the DataFrame back. `others` are
    columns that it may have although the contract says that there are no others. To know how many rows the steps leave
    out, use `freeze_prepared`.

    Raises:
        TypeError: `df` is no Spark DataFrame.
        SpecError: the spec is inconsistent, a reference is not given, or one cannot be joined by Spark.
        ContractError: the DataFrame lacks a column, has one of another type, one that a step makes, or one of a type
            that cannot go through; or a reference table is not as the spec declares it.
    """
    need_frame(df, "etl.relational.prepare")
    if not on_table(spec.relational) and not moved_joins(spec, references):
        return df
    made = marked(df, spec, references, others=others)
    return made.filter(column(LEFT_OUT).isNull()).drop(LEFT_OUT)


def moved_joins(spec: Spec, references: References | None) -> tuple[str, ...]:
    """Ids of the worker's joins that run on the table, because of a reference that is a DataFrame.

    Raises:
        SpecError: the contract changes what such a join joins by.
    """
    moved = moved_to_table(spec.relational, frames_of(references or {}))
    problem = unmovable(spec.relational, moved, spec.input.fields)
    if problem is not None:
        message = f"{problem}. Let the contract keep or reject such values, or give a table that fits a worker."
        raise SpecError(message)
    return moved


def frames_of(references: References) -> dict[str, Any]:
    """Those that are DataFrames."""
    return {name: given for name, given in references.items() if is_spark_frame(given)}


def marked(df: DataFrame, spec: Spec, references: References | None = None, *, others: Sequence[str] = ()) -> DataFrame:
    """As `prepare`, with a row that holds nothing but `LEFT_OUT` (`filtered` or `deduplicated`) for each row left out.

    Errors are those of `prepare`.
    """
    given, frames = dict(references or {}), frames_of(references or {})
    moved = moved_joins(spec, given)
    part = TablePart(spec, given, moved=moved, elsewhere=frames)
    spec.input.check_schema(arrow_schema(df.schema), WHERE, [*others, *(label.name for label in spec.input.labels)])
    names = list(df.columns)
    if ORIGIN in others and ORIGIN in names:
        names.remove(ORIGIN)
    check_new_names(part.arrivals, names, WHERE, if_prepared=_IF_PREPARED)
    there = joins(spec.relational, moved)[0]
    tables = used_references({i: step for i, step in there.items() if step.params.reference not in frames}, given)
    for stage in _stages(spec, moved, frames):
        if isinstance(stage, int):
            step = there[spec.relational[stage].id]
            df = joined(df, step, frames[step.params.reference], index=stage, moved=step.id in moved)
            continue
        work = _Work(spec, tables, stage, _behind(part, stage, _declared(df)), moved, tuple(frames))
        rows = df if stage.keys is None else _together(df, stage.keys)
        df = map_batches(rows, df.columns, functools.partial(_run, work=work), declared=work.declared)
    return df if LEFT_OUT in df.columns else with_nothing(df, LEFT_OUT)


_IF_PREPARED = (
    "if the rows were prepared already, give them as they were, for they are prepared on the way; what was prepared is "
    "fitted and transformed in memory: etl.relational.as_prepared(df.toArrow(), spec)"
)


class Frozen(NamedTuple):
    """A prepared DataFrame as Parquet files."""

    folder: str
    """Where its rows are."""
    counts: Counts
    """What became of the rows that were given, counted in the footers of what was written."""


def freeze_prepared(
    df: DataFrame,
    spec: Spec,
    references: References | None = None,
    *,
    folder: str,
    others: Sequence[str] = (),
    columns: Sequence[str] | None = None,
) -> Frozen:
    """Write the rows of `prepare` as Parquet below a new folder, and count them; all columns, or those named.

    Rows that are left out are written too, each as a row of nulls, since what was written is the one thing that can be
    counted for sure: Spark may run a task twice.

    Raises:
        TypeError, SpecError, ContractError: as `prepare` does.
        InputMissing, ReadError: Spark cannot give or write the rows.
    """
    from pyspark.sql import functions  # noqa: PLC0415  only who has a DataFrame needs Spark

    need_frame(df, "etl.relational.prepare")
    rows = marked(df, spec, references, others=others)
    outcome = functions.coalesce(column(LEFT_OUT), functions.lit(_KEPT))
    rows = rows.withColumn(_OUTCOME, outcome).drop(LEFT_OUT)
    rows = rows if columns is None else rows.select(*map(column, [*columns, _OUTCOME]))
    kept = f"{folder}/{_OUTCOME}={_KEPT}"
    with storing(df.sparkSession, "the table behind the relational steps", folder) as uri:
        rows.write.mode("error").partitionBy(_OUTCOME).parquet(uri)
        storage, path = storage_for(folder)
        if not storage.names(storage_for(kept)[1]):
            # So that a table without rows has its columns all the same.
            empty = df.sparkSession.createDataFrame([], rows.drop(_OUTCOME).schema)
            empty.write.parquet(f"{uri}/{_OUTCOME}={_KEPT}")
    found = {_KEPT: 0, "filtered": 0, "deduplicated": 0}
    for file in storage.list_files(path):
        found[file.path.removeprefix(f"{path}/{_OUTCOME}=").partition("/")[0]] += _rows_of(file)
    counts = Counts(sum(found.values()), found["filtered"], found["deduplicated"])
    return Frozen(kept, counts)


def _rows_of(file: InputFile) -> int:
    storage, _ = storage_for(file.path)
    return int(open_parquet(storage, file).metadata.num_rows)


class _Stage(NamedTuple):
    """Steps that run between two shuffles."""

    keys: tuple[str, ...] | None
    """Columns by which rows must be together; None where they need not be."""
    steps: tuple[int, ...]
    """By their index among the relational steps."""


class _Work(NamedTuple):
    """What a task is told."""

    spec: Spec
    references: dict[str, pa.Table]
    stage: _Stage
    declared: pa.Schema
    """Of the batches that it gives."""
    moved: tuple[str, ...] = ()
    """Ids of joins of the worker that run on the table."""
    elsewhere: tuple[str, ...] = ()
    """Names of the references that Spark joins."""

    def part(self) -> TablePart:
        """The steps, bound to their reference tables."""
        return TablePart(self.spec, self.references, moved=self.moved, elsewhere=self.elsewhere)


def _stages(spec: Spec, moved: Collection[str], frames: Collection[str]) -> list[_Stage | int]:
    """Steps with the same keys together, with those that look at no other row; a join by Spark as its index."""
    part = on_table(spec.relational)
    stages: list[_Stage | int] = []
    keys: tuple[str, ...] | None = None
    steps: list[int] = []
    for index, step in enumerate(spec.relational):
        if index >= part and step.id not in moved:
            continue
        wanted = tuple(sorted(set(step.keys))) if isinstance(step, TableStep) else None
        made = {name for before in steps for name in spec.relational[before].outputs}
        by_spark = isinstance(step, LookupJoin) and step.params.reference in frames
        # Rows cannot be brought together by what is made only behind the shuffle.
        is_new = wanted is not None and ((keys is not None and keys != wanted) or not made.isdisjoint(wanted))
        if steps and (by_spark or is_new):
            stages.append(_Stage(keys, tuple(steps)))
            keys, steps = None, []
        if by_spark:
            stages.append(index)
            continue
        keys = wanted or keys
        steps.append(index)
    return [*stages, _Stage(keys, tuple(steps))] if steps else stages


def _together(df: DataFrame, keys: Sequence[str]) -> DataFrame:
    """The rows of a group in one partition, and there one behind the other.

    As plain strings: a collation would let other texts come between.
    """
    from pyspark.sql.types import StringType  # noqa: PLC0415  only who has a DataFrame needs Spark

    kinds = {name: df.schema[name].dataType for name in keys}
    by = [column(name).cast("string") if isinstance(kinds[name], StringType) else column(name) for name in keys]
    return df.repartition(*by).sortWithinPartitions(*by)


def _declared(df: DataFrame) -> pa.Schema:
    """The columns as a task hands them on.

    Raises:
        ContractError: one has a type that Arrow batches do not carry.
    """
    fields = []
    for field in df.schema.fields:
        kind = arrow_type(field.dataType)
        if kind is None:
            found = f"column {field.name!r} is {field.dataType.simpleString()}"
            message = f"{WHERE}: {found}, which cannot go through relational steps. Leave it out, or cast it."
            raise ContractError(message)
        fields.append(pa.field(field.name, kind))
    return pa.schema(fields)


def _behind(part: TablePart, stage: _Stage, schema: pa.Schema) -> pa.Schema:
    """The schema behind a stage: what its steps made, and at the first stage what the steps say of rows."""
    steps = [part.spec.relational[index] for index in stage.steps]
    made = [name for step in steps for name in (*step.outputs, unmatched(step.id)) if name in part.arrivals]
    fields = [*schema, *(pa.field(name, part.arrivals[name].arrow) for name in made)]
    names = {field.name for field in fields}
    if REJECTED in part.arrivals and REJECTED not in names:
        fields.append(pa.field(REJECTED, pa.string()))
    if LEFT_OUT not in names:
        fields.append(pa.field(LEFT_OUT, pa.string()))
    return pa.schema(fields)


def _run(batches: Iterable[pa.RecordBatch], *, work: _Work) -> Iterator[pa.RecordBatch]:
    """Runs on a worker: gathers batches until groups are complete."""
    part = work.part()
    waiting: list[pa.Table] = []
    wanted = _ROWS
    for batch in batches:
        waiting.append(pa.Table.from_batches([batch]))
        if sum(table.num_rows for table in waiting) >= wanted:
            table = pa.concat_tables(waiting)
            complete = _complete(part, work.stage, table)
            # A group that is larger than what was gathered: gather twice as much, so as not to look at it too often.
            wanted = _ROWS if complete else 2 * table.num_rows
            waiting = [table.slice(complete)]
            if complete:
                yield from _worked(part, work, table.slice(0, complete))
    if any(table.num_rows for table in waiting):
        yield from _worked(part, work, pa.concat_tables(waiting))


def _complete(part: TablePart, stage: _Stage, table: pa.Table) -> int:
    """How many rows come before the last group, of which more may follow. Rows of no group need not wait."""
    if stage.keys is None:
        return int(table.num_rows)
    codes = part.group_codes(table, stage.keys, stage.steps[0])
    others = np.flatnonzero((codes != codes[-1]) | (codes < 0))
    return int(others[-1]) + 1 if others.size else 0


def _worked(part: TablePart, work: _Work, table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Whole groups behind the stage's steps; with a row of nulls for each row that is left out."""
    gone = pa.nulls(0, pa.string())
    if LEFT_OUT in table.column_names:
        reasons = one_chunk(table.column(LEFT_OUT))
        table, gone = table.filter(reasons.is_null()).drop_columns([LEFT_OUT]), reasons.drop_null()
    made, left_out = part.run(table, work.stage.steps)
    marks = pa.concat_arrays([gone, *(pa.array([why] * count, pa.string()) for why, count in left_out.items())])
    columns = {name: one_chunk(made.column(name)) for name in made.column_names}
    columns[LEFT_OUT] = pa.nulls(made.num_rows, pa.string())
    yield as_declared(columns, work.declared)
    if len(marks):
        empty = {field.name: pa.nulls(len(marks), field.type) for field in work.declared}
        yield as_declared({**empty, LEFT_OUT: marks}, work.declared)
