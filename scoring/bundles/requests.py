"""Rows of a request as a table: a frame of pandas, as a web server reads it from JSON, in the types of a contract.

JSON has no timestamps, no bytes and one kind of number, so a value is read as the field says. A value that cannot be
read becomes missing and its row is rejected with the reason; the other rows are not affected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from etl.errors import ContractError
from etl.frame import Rejection
from etl.types import is_readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.contract import Contract, InputField
    from etl.types import ArrowArray

__all__ = ["read_frame"]


def read_frame(frame: Any, contract: Contract) -> tuple[pa.Table, list[Rejection]]:
    """The contract's columns of a pandas frame, and the rows that have a value which could not be read.

    NaN is what pandas holds for a missing value, and is read as one. A column that is not there is missing throughout
    where the contract lets it be; what else is in the frame is not looked at.

    Raises:
        ContractError: it is no frame, or a column is not there.
    """
    if not hasattr(frame, "columns"):
        message = (
            "the request has no column names: send `dataframe_split` or `dataframe_records`, in Python a DataFrame."
        )
        raise ContractError(message)
    names = [str(name) for name in frame.columns]
    missing = [field.name for field in contract.fields if field.name not in names]
    if missing:
        message = f"the request has no column {', '.join(map(repr, missing))}; it has {', '.join(names) or 'none'}."
        raise ContractError(message)
    unread: list[Rejection] = []
    columns = {}
    for number, field in enumerate(contract.fields):
        column, bad = _column(frame.iloc[:, names.index(field.name)], field)
        columns[field.name] = column
        if bad:
            message = f"{field.name} is no {field.type}"
            rows = np.array(bad, dtype=np.int64)
            unread.append(Rejection(rows, "NOT_CASTABLE", f"/input/fields/{number}/type", field.name, message))
    return pa.table(columns), unread


def _column(series: Any, field: InputField) -> tuple[ArrowArray, list[int]]:
    """A column in a type that the field can be read from, and the rows that have no value in it."""
    wanted = field.type.arrow
    found = _arrow(series)
    if found is not None and is_readable(found.type, field.type):
        return found, []
    whole = None if found is None else _cast(found, wanted)
    return (whole, []) if whole is not None else _one_by_one(series.tolist(), wanted)


def _one_by_one(values: Sequence[Any], wanted: pa.DataType) -> tuple[ArrowArray, list[int]]:
    """The slow way, for a column in which some value is not what it should be."""
    read: list[ArrowArray] = [pa.nulls(0, wanted)]
    bad: list[int] = []
    for row, value in enumerate(values):
        found = _arrow([value])
        one = None if found is None else _cast(found, wanted)
        if one is None:
            bad.append(row)
        read.append(pa.nulls(1, wanted) if one is None else one)
    return pa.concat_arrays(read), bad


def _arrow(values: Any) -> ArrowArray | None:
    """Values in Arrow's type for them; None of values of several types."""
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None


def _cast(column: ArrowArray, wanted: pa.DataType) -> ArrowArray | None:
    """The values in the wanted type; None where one has none. No number is read from a text, nor a text from one."""
    try:
        if _kind(column.type) == "text" and pa.types.is_temporal(wanted):
            return _instants(column, wanted)
        # An empty list, and one of gaps, says nothing of its elements.
        if not (_kind(column.type) in {_kind(wanted), "nothing"} or f"{_kind(column.type)} of" in _kind(wanted)):
            return None
        if pa.types.is_integer(column.type) and wanted == pa.float32():
            # As if it had been written with a point: Arrow lets no integer be rounded.
            column = column.cast(pa.float64())
        return column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _instants(texts: ArrowArray, wanted: pa.DataType) -> ArrowArray:
    """Days or instants from ISO texts; an instant without a zone is UTC."""
    if not pa.types.is_timestamp(wanted):
        return texts.cast(wanted)
    try:
        return texts.cast(wanted)
    except pa.ArrowInvalid:
        return texts.cast(pa.timestamp(wanted.unit)).cast(wanted)


def _kind(type_: pa.DataType) -> str:
    """What values are, whatever their width."""
    if pa.types.is_null(type_):
        return "nothing"
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        inner = _kind(type_.value_type)
        return "list" if inner == "nothing" else f"list of {inner}"
    if pa.types.is_integer(type_) or pa.types.is_floating(type_):
        return "number"
    return "text" if pa.types.is_string(type_) else str(type_)
