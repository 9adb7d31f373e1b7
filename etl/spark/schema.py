"""Types on both sides of the border: Spark's of a DataFrame, Arrow's of the batches that a task takes and gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from etl.errors import TransformError
from etl.types import UNSIGNED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import Column
    from pyspark.sql.types import DataType, StructType

    from etl.types import ArrowArray

__all__ = ["arrow_schema", "arrow_type", "as_declared", "column", "spark_schema", "spark_type"]

_SCALARS = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    "timestamp_ntz": pa.timestamp("us"),
}
"""By Spark's own short names. Spark's timestamp is an instant: the zone that Arrow carries with it is a label."""

_HELD_BY = {
    pa.float16(): pa.float32(),
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): UNSIGNED,
}
"""What holds every value of a type that Spark has not."""


def column(name: str) -> Column:
    """A column by its exact name, whatever signs are in it."""
    from pyspark.sql import functions  # noqa: PLC0415  only who has a DataFrame needs Spark

    return functions.col(f"`{name.replace('`', '``')}`")


def arrow_type(found: DataType) -> pa.DataType | None:
    """The Arrow type in which Spark hands a column to a task; None for one that no contract reads."""
    from pyspark.sql.types import ArrayType, DecimalType, StringType, StructType  # noqa: PLC0415  as above

    if isinstance(found, DecimalType):
        return pa.decimal128(found.precision, found.scale)
    if isinstance(found, ArrayType):
        item = arrow_type(found.elementType)
        return None if item is None else pa.list_(item)
    if isinstance(found, StructType):
        fields = [(field.name, arrow_type(field.dataType)) for field in found.fields]
        known = [pa.field(name, kind) for name, kind in fields if kind is not None]
        return pa.struct(known) if len(known) == len(fields) else None
    if isinstance(found, StringType):
        return pa.string()
    return _SCALARS.get(found.simpleString())


def arrow_schema(found: StructType) -> pa.Schema:
    """The Arrow schema of those of a DataFrame's columns whose type a contract could read."""
    kinds = [(field.name, arrow_type(field.dataType)) for field in found.fields]
    return pa.schema([pa.field(name, kind) for name, kind in kinds if kind is not None])


def spark_type(wanted: pa.DataType) -> DataType:
    """The Spark type that holds an Arrow type's values.

    Raises:
        TypeError: there is none.
    """
    from pyspark.sql import types  # noqa: PLC0415  as above

    wanted = _HELD_BY.get(wanted, wanted)
    if pa.types.is_list(wanted):
        return types.ArrayType(spark_type(wanted.value_type))
    if pa.types.is_struct(wanted):
        return types.StructType([types.StructField(field.name, spark_type(field.type)) for field in wanted])
    if pa.types.is_decimal(wanted):
        return types.DecimalType(wanted.precision, wanted.scale)
    kinds = {
        pa.bool_(): types.BooleanType(),
        pa.int8(): types.ByteType(),
        pa.int16(): types.ShortType(),
        pa.int32(): types.IntegerType(),
        pa.int64(): types.LongType(),
        pa.float32(): types.FloatType(),
        pa.float64(): types.DoubleType(),
        pa.string(): types.StringType(),
        pa.binary(): types.BinaryType(),
        pa.date32(): types.DateType(),
        pa.timestamp("us", "UTC"): types.TimestampType(),
    }
    if wanted not in kinds:
        message = f"Spark has no type for {wanted}"
        raise TypeError(message)
    return kinds[wanted]


def spark_schema(wanted: pa.Schema) -> StructType:
    """The Spark schema that holds an Arrow schema's values; every column may be null.

    Raises:
        TypeError: Spark has no type for a column.
    """
    from pyspark.sql.types import StructField, StructType  # noqa: PLC0415  as above

    return StructType([StructField(field.name, spark_type(field.type)) for field in wanted])


def as_declared(columns: Mapping[str, ArrowArray], declared: pa.Schema) -> pa.RecordBatch:
    """The columns as one batch of exactly the declared schema; one of another type is cast where no value changes.

    Raises:
        TransformError: a column is not there, or cannot be cast; the message names it, and shows no value.
    """
    arrays = []
    for field in declared:
        if field.name not in columns:
            message = f"column {field.name!r} is declared and was not made; there is: {', '.join(columns)}."
            raise TransformError(message)
        arrays.append(_cast(columns[field.name], field))
    return pa.RecordBatch.from_arrays(arrays, schema=declared)


def _cast(array: ArrowArray, field: pa.Field) -> ArrowArray:
    if array.type == field.type:
        return array
    message = f"column {field.name!r} is {array.type}; not all of it can be given as {field.type}."
    narrows = pa.types.is_floating(array.type) and pa.types.is_floating(field.type)
    if narrows and array.type.bit_width > field.type.bit_width:
        # Arrow calls rounding safe.
        raise TransformError(message)
    try:
        return array.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TransformError(message) from error
