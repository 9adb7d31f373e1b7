"""Quarantined rows as a table: where each is, why it was set aside, its input values with personal data masked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl.entry import read
from etl.runs.read import ROW
from etl.types import ColumnType

if TYPE_CHECKING:
    from etl.contract import Contract, InputField
    from etl.frame import Rejection
    from etl.runs.read import SplitReader
    from etl.runs.splits import Split
    from etl.types import ArrowArray

__all__ = ["quarantine_batch", "quarantine_schema"]

_INTEGERS = ColumnType("list", item="int64")
"""A vector of int64 of any length, as a preview shows a broken one."""


def quarantine_schema(contract: Contract) -> pa.Schema:
    """Reference, reason and preview; the preview has every input column, personal data always null."""
    preview = pa.struct([pa.field(field.name, field.type.arrow) for field in contract.fields])
    return pa.schema(
        [
            pa.field("file", pa.string(), nullable=False),
            pa.field("etag", pa.string(), nullable=False),
            pa.field("row", pa.int64(), nullable=False),
            pa.field("row_group", pa.int32(), nullable=False),
            pa.field("row_in_group", pa.int64(), nullable=False),
            pa.field("stage", pa.string(), nullable=False),
            pa.field("code", pa.string(), nullable=False),
            pa.field("rule", pa.string(), nullable=False),
            pa.field("column", pa.string(), nullable=False),
            pa.field("message", pa.string(), nullable=False),
            pa.field("preview", preview, nullable=False),
        ]
    )


def quarantine_batch(
    batch: pa.RecordBatch, rejections: list[Rejection], *, reader: SplitReader, split: Split, contract: Contract
) -> pa.RecordBatch:
    """The rejected rows of a batch, each once, under the first rule that rejected it."""
    first = np.full(batch.num_rows, -1, dtype=np.int64)
    for number, rejection in reversed(list(enumerate(rejections))):
        first[rejection.rows] = number
    rows = np.flatnonzero(first >= 0)
    chosen = [rejections[number] for number in first[rows]]
    index = batch.column(ROW).to_numpy()[rows]
    starts = np.array([group.first_row for group in reader.row_groups])
    groups = np.searchsorted(starts, index, side="right") - 1
    numbers = np.array([group.number for group in reader.row_groups], dtype=np.int32)
    columns = [
        pa.repeat(split.file.path, rows.size),
        pa.repeat(split.file.etag, rows.size),
        pa.array(index),
        pa.array(numbers[groups]),
        pa.array(index - starts[groups]),
        pa.array([_stage(rejection) for rejection in chosen], pa.string()),
        pa.array([rejection.code for rejection in chosen], pa.string()),
        pa.array([rejection.pointer for rejection in chosen], pa.string()),
        pa.array([rejection.column for rejection in chosen], pa.string()),
        pa.array([rejection.message for rejection in chosen], pa.string()),
        _preview(batch.take(pa.array(rows)), contract),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=quarantine_schema(contract))


def _stage(rejection: Rejection) -> str:
    """The stage that a rule belongs to, by its place in the spec; a rejection without a place is the model's."""
    if rejection.pointer.startswith("/input/"):
        return "contract"
    return "transform" if rejection.pointer else "inference"


def _preview(rows: pa.RecordBatch, contract: Contract) -> pa.StructArray:
    fields = quarantine_schema(contract).field("preview").type
    return pa.StructArray.from_arrays([_shown(rows, field) for field in contract.fields], fields=list(fields))


def _shown(rows: pa.RecordBatch, field: InputField) -> ArrowArray:
    """A column for people: bytes that are no UTF-8 escaped, null for what has no form in the field's type."""
    if field.pii:
        return pa.nulls(rows.num_rows, field.type.arrow)
    column = rows.column(field.name)
    if field.type.kind == "string":
        raw = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        return pa.array([_text(value) for value in raw.cast(pa.binary()).to_pylist()], pa.string())
    if field.type.kind == "vector":
        if field.type.item == "int64":
            return read(column, _INTEGERS)[0]
        return column.cast(field.type.arrow, safe=False)
    return read(column, field.type)[0]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")
