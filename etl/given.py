"""What a notebook has in its hands, an Arrow table or batch or a pandas frame, as one Arrow table."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from etl.errors import ContractError
from etl.types import ColumnType, is_bytes, workable

__all__ = ["advice", "as_table", "is_pandas", "is_spark_frame"]

_NULLABLE = {"int32": "Int32", "int64": "Int64", "uint64": "UInt64", "bool": "boolean"}
"""What pandas calls a column that may have missing values."""


def is_pandas(data: Any) -> bool:
    """Whether it is of pandas, told by name, so that nobody need have it."""
    return type(data).__module__.partition(".")[0] == "pandas"


def is_spark_frame(data: Any) -> bool:
    """Whether it is a DataFrame of Spark, classic or Connect, told by name."""
    return type(data).__module__.startswith("pyspark.sql.")


def as_table(data: Any, where: str = "") -> pa.Table:
    """An Arrow table of an Arrow table or batch, or a pandas frame; errors begin with `where`.

    Raises:
        TypeError: it is none of these.
        ContractError: columns of the frame have no plain names, one twice, or values that no Arrow column holds.
    """
    if isinstance(data, pa.Table):
        return workable(data)
    if isinstance(data, pa.RecordBatch):
        return workable(pa.Table.from_batches([data]))
    module = type(data).__module__.partition(".")[0]
    if is_pandas(data) and hasattr(data, "columns"):
        return _of_pandas(data, where or "the frame")
    found = f"{module}'s {type(data).__name__}" if module in {"pandas", "pyspark"} else type(data).__name__
    message = f"{where}{': ' if where else ''}takes an Arrow table or batch, or a pandas frame, found {found}"
    hints = {"pandas": "; give a frame of it: .to_frame()", "pyspark": "; give it to the verbs of etl.spark"}
    raise TypeError(message + hints.get(module, ""))


def _of_pandas(frame: Any, where: str) -> pa.Table:
    if frame.columns.nlevels > 1:
        message = f"{where}: its columns have names of {frame.columns.nlevels} levels. Give each one name, a text."
        raise ContractError(message)
    twice = [name for name, count in Counter(map(str, frame.columns)).items() if count > 1]
    if twice:
        message = f"{where}: has more than one column {twice[0]!r}. Rename them, or leave all but one out."
        raise ContractError(message)
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        # Arrow's own words show a value, which may be personal data.
        raise ContractError(f"{where}: {_unreadable(frame)}") from error


def _unreadable(frame: Any) -> str:
    """Which column Arrow does not take, and what is in it."""
    for name, column in frame.items():
        try:
            pa.Array.from_pandas(column)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            kinds = ", ".join(sorted({type(value).__name__ for value in column.dropna()})[:4])
            found = f"column {name!r} holds values of {kinds}, which are no one type of Arrow"
            return f"{found}. Make all of them of one type, or leave the column out."
    return "Arrow cannot hold its columns. Cast them to plain types."


def advice(name: str, wanted: ColumnType, schema: pa.Schema) -> str:
    """What to do about a column of another type: run-end encoded, bytes in place of text, or floats that pandas made in
    place of integers or bools; nothing about others.
    """  # noqa: D205  one sentence
    found = schema.field(name).type
    if pa.types.is_run_end_encoded(found):
        return " (decode it first: pyarrow.compute.run_end_decode)"
    if wanted.kind == "string" and is_bytes(found):
        return " (bytes are no text: .cast('string') in pyarrow, CAST(… AS STRING) in Spark make text of UTF-8)"
    if wanted.kind == "vector" and is_bytes(found):
        return f" (bytes are read as uint8[{wanted.width}])"
    kind = _NULLABLE.get(wanted.kind)
    is_float = pa.types.is_floating(found)
    if kind is None or not is_float or b"pandas" not in (schema.metadata or {}):
        return ""
    return f" (pandas makes floats of them where one is missing: .astype({{{name!r}: {kind!r}}}) keeps them)"
