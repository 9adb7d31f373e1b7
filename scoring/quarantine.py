"""Quarantined rows as a table: where each is, why it was set aside, its input values with personal data masked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl.arrivals import ORIGIN
from etl.entry import read
from etl.runs.read import ROW, numbers_of, place_in, rows_of
from etl.tensors import as_lists

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.contract import Contract, InputField
    from etl.frame import Rejection
    from etl.runs.read import RowGroups
    from etl.runs.splits import InputFile, Split
    from etl.types import ArrowArray

__all__ = ["places_read", "quarantine_batch", "quarantine_schema", "stage_of"]


def quarantine_schema(contract: Contract) -> pa.Schema:
    """Reference, reason and preview; the preview has every input column, personal data always null.

    The reference is to the job's own input files. Where Spark prepared rows of such files, `prepared_file` and
    `prepared_row` say where the worker read them, beside what relational steps made; else the two are null. Rows that
    Spark prepared of a table or query have no file of their own, and are referred to where they were frozen.
    """
    preview = pa.struct([pa.field(field.name, field.type.arrow) for field in contract.fields])
    return pa.schema(
        [
            pa.field("file", pa.string(), nullable=False),
            pa.field("etag", pa.string(), nullable=False),
            pa.field("row", pa.int64(), nullable=False),
            pa.field("row_group", pa.int32(), nullable=False),
            pa.field("row_in_group", pa.int64(), nullable=False),
            pa.field("prepared_file", pa.string()),
            pa.field("prepared_row", pa.int64()),
            pa.field("stage", pa.string(), nullable=False),
            pa.field("code", pa.string(), nullable=False),
            pa.field("rule", pa.string(), nullable=False),
            pa.field("column", pa.string(), nullable=False),
            pa.field("message", pa.string(), nullable=False),
            pa.field("preview", preview, nullable=False),
        ]
    )


def quarantine_batch(
    batch: pa.RecordBatch,
    rejections: list[Rejection],
    *,
    split: Split,
    row_groups: RowGroups,
    contract: Contract,
    sources: tuple[InputFile, ...] = (),
) -> pa.RecordBatch:
    """The rejected rows of a batch, each once, under the first rule that rejected it.

    `sources` are the files that prepared rows came from: then the batch has the column `ORIGIN`.
    """
    first = np.full(batch.num_rows, -1, dtype=np.int64)
    for number, rejection in reversed(list(enumerate(rejections))):
        first[rejection.rows] = number
    rows = np.flatnonzero(first >= 0)
    chosen = [rejections[number] for number in first[rows]]
    bad = batch.take(pa.array(rows))
    columns = [
        *(_origin(bad, split, sources=sources) if sources else _place(bad, split, row_groups)),
        pa.array([stage_of(rejection) for rejection in chosen], pa.string()),
        pa.array([rejection.code for rejection in chosen], pa.string()),
        pa.array([rejection.pointer for rejection in chosen], pa.string()),
        pa.array([rejection.column for rejection in chosen], pa.string()),
        pa.array([rejection.message for rejection in chosen], pa.string()),
        _preview(bad, contract),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=quarantine_schema(contract))


def places_read(quarantine: pa.RecordBatch, split: Split) -> npt.NDArray[np.int64]:
    """Place in the split of each quarantined row, by which the row account knows it: from what is told of the row."""
    files, rows = (
        ("prepared_file", "prepared_row") if not quarantine.column("prepared_row").null_count else ("file", "row")
    )
    numbers = {part.file.path: number for number, part in enumerate(split.ranges)}
    parts = [numbers[path] for path in quarantine.column(files).to_pylist()]
    return place_in(np.array(parts, dtype=np.int64), quarantine.column(rows).to_numpy())


def _place(bad: pa.RecordBatch, split: Split, row_groups: RowGroups) -> list[ArrowArray]:
    """The reference to rows of the input."""
    places = bad.column(ROW).to_numpy()
    rows = rows_of(places)
    groups, starts = row_groups.of(places)
    files = _files(places, split)
    return [
        pa.array([file.path for file in files], pa.string()),
        pa.array([file.etag for file in files], pa.string()),
        *map(pa.array, (rows, groups, rows - starts)),
        pa.nulls(rows.size, pa.string()),
        pa.nulls(rows.size, pa.int64()),
    ]


def _origin(bad: pa.RecordBatch, split: Split, *, sources: tuple[InputFile, ...]) -> list[ArrowArray]:
    """The reference to the rows that prepared ones come from, and where those are."""
    numbers, groups, starts, rows = (part.to_numpy() for part in bad.column(ORIGIN).flatten())
    files = [sources[number] for number in numbers.tolist()]
    places = bad.column(ROW).to_numpy()
    return [
        pa.array([file.path for file in files], pa.string()),
        pa.array([file.etag for file in files], pa.string()),
        *map(pa.array, (rows, groups, rows - starts)),
        pa.array([file.path for file in _files(places, split)], pa.string()),
        pa.array(rows_of(places)),
    ]


def _files(places: npt.NDArray[np.int64], split: Split) -> list[InputFile]:
    """The file that each row was read of."""
    return [split.ranges[number].file for number in numbers_of(places).tolist()]


def stage_of(rejection: Rejection) -> str:
    """The stage that a rule belongs to, by its place in the spec; a rejection without a place is the model's.

    What the config says of the output is about values as they came, too.
    """
    if rejection.pointer.startswith(("/input/", "/output/")):
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
        return as_lists(column, field.type.item)
    return read(column, field.type)[0]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")
