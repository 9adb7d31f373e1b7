"""Relational steps on a table in memory, and what it means where a step runs.

A spec's relational steps have two places, and one list tells both: everything up to the last step that needs other
rows (`dedupe`, `group_aggregate`, `window_lag`, `window_rolling`) runs **on the table**, what stands behind it
(`lookup_join`, `filter`) runs **in the worker**, behind the contract.

On the table, a step sees the columns of the contract's fields as they are stored, cast to the contract's types and
before any of its treatments: no value is replaced, no row is set aside, and a value that its type cannot hold is
missing. Behind the steps, the table has its columns as they were, and those that the steps made. In a job this table is
what is frozen and scored: the contract then treats the stored columns, and the made ones are taken as they are.

Rows that a `filter` or `dedupe` on the table leaves out are gone and counted; steps before it have seen them, steps
behind it have not. A row that a `lookup_join` on the table rejects stays whatever later steps leave out, is seen by
them, and is set aside by the worker under the rule that rejected it: the column `__batchscore_rejected` carries the
reason.

`prepare` is the one way to do this in memory, for notebooks, tests and small data; `etl.spark.prepare` does it in Spark
by the same code, group by group, and gives the same rows to the bit.

The table that `prepare` gives bears a mark in the metadata of its schema, by which it and all that is cut of it is
known as prepared for this spec (`etl.arrivals.mark_of`). Names of columns tell nothing: a user's own may be called as
one that a step makes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from etl.arrivals import (
    ORIGIN,
    PREPARED,
    REJECTED,
    arrivals,
    is_prepared,
    mark_of,
    need_arrivals,
    reject_again,
    take_in,
    unmatched,
)
from etl.entry import read
from etl.errors import ContractError
from etl.frame import Frame, once
from etl.given import as_table
from etl.ops.dedupe import Dedupe
from etl.ops.groups import group_codes, sort_keys
from etl.ops.lookup import LookupJoin
from etl.ops.relations import joins, on_table
from etl.ops.tables import TableStep
from etl.pipeline import index_references
from etl.types import kernels, one_chunk

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from etl.ops.groups import Integers, Ties
    from etl.ops.relations import AnyRelationalStep
    from etl.spec import Spec
    from etl.types import Schema

__all__ = [
    "Counts",
    "Prepared",
    "TablePart",
    "as_prepared",
    "behind_table",
    "check_new_names",
    "prepare",
    "used_references",
    "whole",
]


class Counts(NamedTuple):
    """What became of the rows of a table."""

    rows_in: int
    """Rows of the table as it was given."""
    filtered: int
    """Rows that a filter on the table left out."""
    deduplicated: int
    """Rows that were copies of others."""

    def __str__(self) -> str:
        """For people."""
        return f"{self.rows_in:,} rows, of which {self.filtered:,} filtered and {self.deduplicated:,} deduplicated"

    @property
    def rows_out(self) -> int:
        """Rows that are left."""
        return self.rows_in - self.filtered - self.deduplicated


class Prepared(NamedTuple):
    """A table behind the relational steps that run on it."""

    table: pa.Table
    """The columns as they were given, then those that the steps made; its schema bears the mark of the spec."""
    counts: Counts
    """What became of its rows."""
    rows: npt.NDArray[np.int64]
    """Positions of the rows that are left in what was given, ascending."""


_PLACE = "__batchscore_place"
"""The column with the position of each row, while steps run; no step sees it."""


def prepare(data: Any, spec: Spec, references: Mapping[str, Any] | None = None) -> Prepared:
    """The relational steps of a spec or recipe that run on the table, carried out in memory.

    `data` is an Arrow table or batch, or a pandas frame, with all its rows; a spec without such steps gives it back.

    Raises:
        TypeError: the data is none of these.
        SpecError: the spec is inconsistent, or a reference is not given.
        ContractError: the data lacks a column, has one of another type or one that a step makes, or was prepared
            already; or a reference table is not as the spec declares it.
    """
    table, part = as_table(data), TablePart(spec, references or {})
    count = on_table(spec.relational)
    if count and is_prepared(spec, table.schema, "the table"):
        message = (
            "the table: was prepared by these steps already. Give it to Spec.transform, etl.fit or etl.checks.check as "
            "it is, or prepare the rows as they were before."
        )
        raise ContractError(message)
    spec.input.check_schema(table.schema, "the table", [label.name for label in spec.input.labels])
    check_new_names(part.arrivals, table.column_names, "the table")
    places = np.arange(table.num_rows)
    if not count:
        return Prepared(table, Counts(table.num_rows, 0, 0), places)
    made, left_out = part.run(table.append_column(_PLACE, pa.array(places)), range(count))
    places = one_chunk(made.column(_PLACE)).to_numpy()
    return Prepared(_marked(made.drop_columns([_PLACE]), spec), Counts(table.num_rows, **left_out), places)


def as_prepared(data: Any, spec: Spec, where: str = "the table") -> pa.Table:
    """An Arrow table or batch, or a pandas frame, as a table with the mark of what `prepare` made for the spec.

    For rows that were prepared and have lost it, as in pandas, or that `etl.spark.prepare` made. That they were is for
    the caller to know: only the columns that the steps make are looked for, by name and type. Errors begin with
    `where`.

    Raises:
        TypeError: the data is none of these.
        ContractError: such a column is not there or has another type, or the mark is that of another spec.
    """
    table = as_table(data)
    need_arrivals(arrivals(spec), table.schema, where)
    return table if is_prepared(spec, table.schema, where) else _marked(table, spec)


def behind_table(data: Any, spec: Spec, references: Mapping[str, Any] | None = None) -> Prepared:
    """Rows behind the steps on the table: as they are where they bear the mark of the spec, else prepared.

    Raises:
        TypeError, SpecError, ContractError: as `prepare` does; or a record batch was not prepared.
    """
    table = as_table(data)
    if is_prepared(spec, table.schema, "the table"):
        return Prepared(table, Counts(table.num_rows, 0, 0), np.arange(table.num_rows))
    if isinstance(data, pa.RecordBatch):
        given = "table, spec, references" if joins(spec.relational)[0] else "table, spec"
        message = (
            "the batch: was not prepared. Relational steps run on the whole table, of which a batch may be a part. "
            f"Give the table; or prepare it first, by etl.relational.prepare({given}).table, and give batches of that."
        )
        raise ContractError(message)
    return prepare(table, spec, references)


def _marked(table: pa.Table, spec: Spec) -> pa.Table:
    return table.replace_schema_metadata({**(table.schema.metadata or {}), PREPARED: mark_of(spec)})


def whole(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """Batches as one table; of columns whose types differ, the wider one.

    Raises:
        ContractError: no type holds all values of a column.
    """
    tables = [as_table(batch) for batch in batches]
    tables = [pa.table({name: _plain(table.column(name)) for name in table.column_names}) for table in tables]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        message = f"pieces of the data differ in their columns, and relational steps need one table: {error}"
        raise ContractError(message) from error


_HANDED_ON = "rows that were prepared are handed on as the Arrow table that prepare gave"


def check_new_names(made: Collection[str], names: Iterable[str], where: str, *, if_prepared: str = _HANDED_ON) -> None:
    """Refuse a table that has a column which a step on the table makes; `if_prepared` tells what else to do.

    Raises:
        ContractError: naming one.
    """
    folded = {name.casefold(): name for name in names}
    reserved = [name for key, name in folded.items() if key.startswith("__batchscore_") and name not in made]
    if reserved:
        message = f"{where}: has a column {reserved[0]!r}; names that begin with __batchscore_ are taken. Rename it."
        raise ContractError(message)
    for name in made:
        if name.casefold() in folded:
            found = folded[name.casefold()]
            message = f"{where}: has a column {found!r}, which the spec's steps make. "
            message += f"Rename it, or leave it out; {if_prepared}."
            raise ContractError(message)


def used_references(steps: Mapping[str, LookupJoin], references: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Of each reference table that is joined, the columns that are used."""
    wanted: dict[str, dict[str, None]] = {}
    for step in steps.values():
        columns = (*step.params.keys, *step.params.columns)
        wanted.setdefault(step.params.reference, {}).update(dict.fromkeys(column.name for column in columns))
    return {
        name: as_table(references[name], f"reference {name!r}").select(list(columns))
        for name, columns in wanted.items()
    }


class TablePart:
    """The relational steps of a spec that run on the table, bound to their reference tables."""

    def __init__(
        self,
        spec: Spec,
        references: Mapping[str, Any],
        *,
        moved: Collection[str] = (),
        elsewhere: Collection[str] = (),
    ) -> None:
        """Index the reference tables but those that are joined elsewhere; `moved` are ids of joins of the worker that
        run on the table.

        Raises:
            SpecError: the spec is inconsistent, or a reference is not given.
            ContractError: a reference table is not as the spec declares it.
        """  # noqa: D205  one sentence
        self.spec = spec
        self.moved = frozenset(moved)
        self.arrivals = arrivals(spec, moved)
        self._schemas = [schema for _, schema in spec.schemas()]
        there, _ = joins(spec.relational, moved)
        here = {name: step for name, step in there.items() if step.params.reference not in elsewhere}
        self._tables = index_references(spec, here, references)

    def run(self, table: pa.Table, steps: Iterable[int]) -> tuple[pa.Table, dict[str, int]]:
        """Some of the steps, by their index, on a table that holds whole groups of each; and how many rows were left
        out as `filtered` and `deduplicated`.
        """  # noqa: D205  one sentence
        left_out = {"filtered": 0, "deduplicated": 0}
        if REJECTED in self.arrivals and REJECTED not in table.column_names:
            table = table.append_column(REJECTED, pa.nulls(table.num_rows, pa.string()))
        for index in steps:
            step = self.spec.relational[index]
            before = table.num_rows
            table = self._step(table, step, index)
            left_out["deduplicated" if isinstance(step, Dedupe) else "filtered"] += before - table.num_rows
        return table, left_out

    def group_codes(self, table: pa.Table, keys: Sequence[str], index: int) -> Integers:
        """A number for each row that is equal for rows of one group, −1 for one that is in none, as a step sees it."""
        return group_codes(self._frame(table, keys, self._schemas[index], nan_is_value=frozenset()), keys)

    def _step(self, table: pa.Table, step: AnyRelationalStep, index: int) -> pa.Table:
        pointer, schema = f"/relational/{index}", self._schemas[index]
        # To a step that looks at other rows, NaN is missing whatever the contract says.
        nan_is_value = frozenset[str]() if isinstance(step, TableStep) else self.spec.input.nan_is_value
        frame = self._frame(table, step.reads, schema, nan_is_value=nan_is_value)
        if REJECTED in self.arrivals and step.id not in self.moved:
            # So that no later step leaves out what is to be set aside.
            reject_again(frame, one_chunk(table.column(REJECTED)))
        if isinstance(step, TableStep):
            step.run(frame, self._ties(table, schema))
        elif isinstance(step, LookupJoin):
            for name, column in zip(step.outputs, step.join(frame, self._tables[step.id], pointer), strict=True):
                frame[name] = column
        else:
            step.run(frame, pointer)
        for name in step.outputs:
            table = table.append_column(name, frame.arrow(name).cast(self._schemas[index + 1][name].arrow))
        if step.id in self.moved and isinstance(step, LookupJoin) and step.params.on_no_match == "reject":
            table = table.append_column(unmatched(step.id), pa.array(frame.rejected))
        elif frame.rejections:
            table = _with_reasons(table, frame)
        return table if frame.filtered is None else table.filter(pa.array(~frame.filtered))

    def _frame(self, table: pa.Table, names: Iterable[str], schema: Schema, *, nan_is_value: frozenset[str]) -> Frame:
        """Columns as they are stored, in the contract's types."""
        frame = Frame(table.num_rows, {}, nan_is_value=nan_is_value)
        for name in names:
            column = table.column(name)
            if name in self.arrivals or schema[name].kind == "vector":
                take_in(frame, name, column, kind=schema[name])
            else:
                frame[name] = read(column, schema[name])[0]
        return frame

    def _ties(self, table: pa.Table, schema: Schema) -> Ties:
        """By every column that a row has; where it came from is none."""
        known = [name for name in schema if name in table.column_names]
        others = sorted(set(table.column_names) - {*known, REJECTED, ORIGIN, _PLACE})

        def ties(rows: Integers) -> list[npt.NDArray[Any]]:
            chosen = table.take(pa.array(rows))
            frame = self._frame(chosen, known, schema, nan_is_value=frozenset())
            columns = [frame[name] for name in known]
            columns += [_plain(chosen.column(name)) for name in others]
            return [key for column in columns for key in sort_keys(column, zeros_differ=True)]

        return ties


def _plain(column: Any) -> Any:
    """A column of no contract, without the forms in which Arrow may hold the same values."""
    column = one_chunk(column)
    return column.dictionary_decode() if isinstance(column.type, pa.DictionaryType) else column


def _with_reasons(table: pa.Table, frame: Frame) -> pa.Table:
    """Write why rows were rejected; a row that has a reason keeps it."""
    given = one_chunk(table.column(REJECTED))
    which = np.full(frame.rows, -1, dtype=np.int64)
    rejections = once(frame.rejections, frame.rows)
    for number, rejection in enumerate(rejections):
        which[rejection.rows] = number
    told = pa.array([json.dumps([r.code, r.pointer, r.column, r.message]) for r in rejections], pa.string())
    reasons = kernels.coalesce(given, told.take(pa.array(which, mask=which < 0)))
    return table.set_column(table.column_names.index(REJECTED), REJECTED, reasons)
