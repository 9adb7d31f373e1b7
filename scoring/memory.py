"""Rows that a worker takes at once, and its projected peak memory in bytes, from footers and declarations alone.

The peak is an estimate, not a bound. Its factors were fitted to measured peaks of three shapes (5 narrow columns, 200
columns, vectors of 784 in and out) at model batches of 4,096 to 65,536 rows; the peak is within 30 % of it either way,
which a test checks. Texts are reckoned as short, and reference tables only roughly, so leave room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from etl.expectations import unique_columns
from etl.runs.keys import KEY_BYTES, KEYS_HELD
from etl.runs.storage import PART_BYTES
from etl.runs.write import ROW_GROUP_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pyarrow.parquet as pq

    from etl.contract import InputField
    from etl.references import PinnedReference
    from etl.types import ColumnType
    from scoring.bundles.bundle import AuditedBundle
    from scoring.order import Order

__all__ = ["TABLE_BYTES", "loaded_bytes", "projected_task_bytes", "table_rows"]

TABLE_BYTES = 8 << 20
"""What contract and steps take and make at once. Of 28 float32 columns that is 65,536 rows, which took 16 % less time
than 16,384; of lists of 784 it is 2,048, and 16,384 took 10 % more. More does not stay in the caches."""
_FEW, _MANY = 1 << 10, 1 << 16
"""Rows at once, whatever their width."""
_VALUE_BYTES = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 8}
"""Of a decoded value, by physical type."""
_TEXT_BYTES = 24
"""Of a decoded text, where the file holds less than that of it: it may lie there once for many rows."""

_PROCESS = 205 << 20
"""A worker with pyspark, pyarrow and onnxruntime loaded that has scored one row."""
_SESSION = 1 << 20
"""A session and a pipeline with next to nothing in them."""
_MODEL_COPIES = 3
"""The file, the parsed graph, and the prepacked weights."""
_PAGE = 1 << 20
"""Writers end a page at about this size."""
_PAGES_HELD = 2.5
"""Of each column chunk while it is streamed: a dictionary, a compressed and a decompressed page."""
_SCALAR_COPIES = 8
"""Of a batch's scalar columns: levels, builders that double, the joined batch, the tensor."""
_VECTOR_COPIES = 5
"""Of its vectors, which become tensors without a copy."""
_OUTPUT_COPIES = 2
"""Of buffered predictions: as Arrow and encoded."""
_REFERENCE_COPIES = 6
"""Of a reference table: as it was pinned and with its keys indexed. A million keys took 3.5 (int64) or 8 (text)."""
_KEY_COPIES = 3
"""Of the digests of rows' keys that are held: as they come, joined, and cut into ranges."""
_WIDTHS = {
    **dict.fromkeys(("bool", "int8", "uint8"), 1),
    **dict.fromkeys(("int16", "uint16", "float16"), 2),
    **dict.fromkeys(("int32", "uint32", "float32", "date"), 4),
    "string": 24,
}
"""Bytes of a value; 8 of any other kind."""


def table_rows(
    footer: pq.FileMetaData, carried: Iterable[InputField], bundles: Sequence[AuditedBundle], *, is_one_each: bool
) -> int:
    """Rows that contract and steps take at once: a power of two, so that all that they read and make stays cached.

    `carried` are columns that are published and not read by the specs. `is_one_each` says that a row goes to one of the
    models, and not to all.
    """
    columns = {field.name for audited in bundles for field in audited.spec.input.fields}
    columns |= {field.name for field in carried}
    read = _decoded_bytes(footer, columns) / max(1, footer.num_rows)
    made = [8 * _step_width(audited) + _published_width(audited) for audited in bundles]
    fitting = int(TABLE_BYTES / max(1.0, read + (max(made) if is_one_each else sum(made))))
    return max(_FEW, min(_MANY, 1 << max(0, fitting.bit_length() - 1)))


def _decoded_bytes(footer: pq.FileMetaData, columns: set[str]) -> int:
    """What these columns of a file are in memory, about."""
    total = 0
    lengths = {leaf.path: leaf.length for leaf in map(footer.schema.column, range(footer.num_columns))}
    for number in range(footer.num_row_groups):
        for chunk in _chunks(footer, number, columns):
            stored = max(chunk.total_uncompressed_size, _TEXT_BYTES * chunk.num_values)
            is_fixed = chunk.physical_type == "FIXED_LEN_BYTE_ARRAY"
            width = lengths[chunk.path_in_schema] if is_fixed else _VALUE_BYTES.get(chunk.physical_type)
            total += stored if width is None else width * chunk.num_values
    return total


def _chunks(footer: pq.FileMetaData, number: int, columns: set[str]) -> Iterator[pq.ColumnChunkMetaData]:
    """Of these columns in a row group."""
    facts = footer.row_group(number)
    chunks = (facts.column(index) for index in range(facts.num_columns))
    return (chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)


def projected_task_bytes(
    footer: pq.FileMetaData,
    order: Order,
    bundles: Sequence[AuditedBundle],
    *,
    references: Mapping[str, PinnedReference],
    files: int = 1,
    is_remote: bool = False,
) -> int:
    """Peak resident bytes of a worker that scores files like the one with this footer and joins these tables.

    `files` is how many of them share a split. Of a file on another machine the chunks of a row group are asked for at
    once, and held until they are decoded.
    """
    read = {field.name: field for audited in reversed(bundles) for field in audited.spec.input.fields}
    fields = tuple({**read, **{field.name: field for field in order.carried}}.values())
    largest = max((footer.row_group(number).num_rows for number in range(footer.num_row_groups)), default=0)
    rows = min(order.rows_at_once, max(largest * files, 1))
    columns = {field.name for field in fields}
    outputs = sum(_published_width(audited) for audited in bundles)
    outputs += sum(_width(field.type) for field in fields if field.name in order.passthrough)
    unique = sum(len(unique_columns(audited.spec.expectations)) for audited in bundles)
    batch_out = rows * outputs
    total, shape = footer.num_rows * files * outputs, order.shape
    written = min(total, (shape.file_bytes if shape.sort_by else ROW_GROUP_BYTES) + batch_out)
    # What goes into several folders of a store is that many uploads, each with a part that is not full.
    parts = min(total, shape.open_files * PART_BYTES) if shape.partition_by and "://" in order.root else 0
    return int(
        _PROCESS
        + sum(loaded_bytes(audited.model_bytes, 0) for audited in bundles)
        + _REFERENCE_COPIES * sum(len(pinned.data) for pinned in references.values())
        + _reader_bytes(footer, columns, is_remote=is_remote)
        + rows * sum(_copies(field.type) * _width(field.type) for field in fields)
        + rows * sum(_step_width(audited) for audited in bundles) * 8
        + _KEY_COPIES * KEY_BYTES * min(footer.num_rows * files, KEYS_HELD) * unique
        + batch_out
        + (_OUTPUT_COPIES + bool(shape.sort_by)) * written
        + parts
    )


def loaded_bytes(model: int, references: int) -> int:
    """What a loaded bundle takes of a process: of the sizes of the model with its weights, and of pinned tables."""
    return _SESSION + _MODEL_COPIES * model + _REFERENCE_COPIES * references


def _reader_bytes(footer: pq.FileMetaData, columns: set[str], *, is_remote: bool) -> float:
    """Pages that are held while the largest row group is streamed, and its chunks as they are stored."""
    largest = 0.0
    for number in range(footer.num_row_groups):
        wanted = _chunks(footer, number, columns)
        held = [
            _PAGES_HELD * min(chunk.total_uncompressed_size, _PAGE) + is_remote * chunk.total_compressed_size
            for chunk in wanted
        ]
        largest = max(largest, sum(held))
    return largest


def _step_width(audited: AuditedBundle) -> int:
    """Float64 values per row that the steps hold until the tensors are made."""
    schema = audited.spec.schema_at()
    inputs = {field.name for field in audited.spec.input.fields}
    return sum(type_.width for name, type_ in schema.items() if name not in inputs)


def _copies(type_: ColumnType) -> int:
    return _VECTOR_COPIES if type_.kind == "vector" else _SCALAR_COPIES


def _width(type_: ColumnType) -> int:
    return _WIDTHS.get(type_.item, 8) * type_.width if type_.kind == "vector" else _WIDTHS.get(type_.kind, 8)


def _published_width(audited: AuditedBundle) -> int:
    """Bytes per row of the model's published columns; an axis of unknown size counts as one value."""
    tensors = {tensor.name: tensor for tensor in audited.bundle.signature.outputs}
    return sum(_arrow_width(column.field(tensors[column.tensor]).type) for column in audited.bundle.columns)


def _arrow_width(type_: pa.DataType) -> int:
    if pa.types.is_fixed_size_list(type_):
        return int(type_.list_size * _arrow_width(type_.value_type))
    if pa.types.is_list(type_):
        return _arrow_width(type_.value_type)
    if pa.types.is_struct(type_):
        return sum(_arrow_width(field.type) for field in type_)
    return _WIDTHS["string"] if pa.types.is_string(type_) else -(-type_.bit_width // 8)
