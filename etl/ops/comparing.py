"""Values that a spec writes, and comparisons of columns with them and with each other: by whole columns, and exactly.

Numbers compare as real numbers, whatever their types are: no integer is rounded to a float. Texts compare by their
UTF-8 bytes, instants as instants. Nothing compares as true with a missing value or NaN.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, FiniteFloat

from etl.frame import EXACT_INTEGERS
from etl.ops.instants import days_of, micros_of
from etl.ops.time import DAY_MICROSECONDS, integers_of
from etl.types import INTEGER_BOUNDS, SCALARS, ColumnType, kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from etl.frame import Frame
    from etl.types import ArrowArray

__all__ = [
    "Literal_",
    "Operator",
    "compare",
    "compare_columns",
    "comparison_misfit",
    "is_ordered",
    "listing",
    "literal_misfit",
    "positions",
    "scalar_of",
    "value_misfit",
]

Operator = Literal["<", "<=", "==", "!=", ">=", ">"]

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
    ">=": np.greater_equal,
    ">": np.greater,
}
_KERNELS = {
    "<": kernels.less,
    "<=": kernels.less_equal,
    "==": kernels.equal,
    "!=": kernels.not_equal,
    ">=": kernels.greater_equal,
    ">": kernels.greater,
}
_MIRRORED = {"<": ">", "<=": ">=", "==": "==", "!=": "!=", ">=": "<=", ">": "<"}


def _is_literal(value: Any) -> Any:
    if not isinstance(value, bool | int | float | str):
        message = "should be a number, a text, true or false; for a missing value there is is_null"
        raise ValueError(message)  # noqa: TRY004  pydantic collects only this one
    return value


Literal_ = Annotated[bool | int | FiniteFloat | str, BeforeValidator(_is_literal)]
"""A value in a spec: of a bool, a number, a text, a date or an instant."""


def listing(*parts: str) -> Callable[[Any], Any]:
    """A check that a value is a list of so many parts, before each is looked at."""

    def check(value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) != len(parts):
            message = f"should be [{', '.join(parts)}]"
            raise ValueError(message)
        # As JSON has no tuples, a list stands for one; only here does pydantic not know that the value was JSON.
        return tuple(tuple(part) if isinstance(part, list) else part for part in value)

    return check


def literal_misfit(found: ColumnType, value: Any) -> str | None:
    """Why a column of a type cannot be compared with a value; None where it can."""
    if found.kind == "uint64":
        return "is uint64, which is for ids and is compared with nothing; declare it int64 if no value is 2^63 or more"
    if isinstance(value, bool):
        fits = found.kind == "bool"
    elif isinstance(value, str):
        fits = found.kind == "string" or _instant(found.kind, value) is not None
    else:
        fits = found.is_numeric and found.kind != "bool"
    return None if fits else f"is {found}, and {_shown(value)} is no value of that type{_form(found, value)}"


def value_misfit(found: ColumnType, value: Any) -> str | None:
    """Why a column of a type cannot hold a value; None where it can, a float32 the nearest to it."""
    if problem := literal_misfit(found, value):
        return problem
    if found.is_integer:
        low, high = INTEGER_BOUNDS[found.kind]
        fits = isinstance(value, int) and low <= value <= high
    elif found.is_float:
        fits = abs(value) <= float(np.finfo(found.kind).max) and float(value) == value
    else:
        fits = True
    return None if fits else f"is {found}, which cannot hold {_shown(value)}"


def is_ordered(found: ColumnType, low: Any, high: Any) -> bool:
    """Whether a value is not above another; both are of the type."""
    return bool(_ordinal(found.kind, low) <= _ordinal(found.kind, high))


def comparison_misfit(left: ColumnType, right: ColumnType) -> str | None:
    """Why two columns cannot be compared; None where they can."""
    kinds = {_COMPARABLE.get(left.kind), _COMPARABLE.get(right.kind)}
    if len(kinds) == 1 and None not in kinds:
        return None
    return f"compares two columns of numbers, of texts, or of dates and timestamps, found {left} and {right}"


_COMPARABLE = {
    **dict.fromkeys(("bool", "int32", "int64", "float32", "float64"), "number"),
    **dict.fromkeys(("date", "timestamp"), "instant"),
    "string": "text",
}


def scalar_of(kind: str, value: Any) -> pa.Scalar[Any]:
    """A value as a scalar of a type that can hold it."""
    if kind in {"date", "timestamp"}:
        width = pa.int32() if kind == "date" else pa.int64()
        return pa.scalar(_instant(kind, value), width).cast(SCALARS[kind])
    if kind == "float32":
        value = np.float32(value)
    return pa.scalar(value, SCALARS[kind])


def compare(frame: Frame, name: str, operator: str, *, value: Any) -> npt.NDArray[np.bool_]:
    """Whether each value of a column compares so with a literal; shape (rows,)."""
    column = frame[name]
    if isinstance(column, pa.Array) and pa.types.is_string(column.type):
        return _mask(_KERNELS[operator](column, pa.scalar(value, pa.string())))
    numbers, value = _numbers(frame, name), _ordinal(frame.kind(name), value)
    if numbers.dtype.kind == "i":
        return _compare_integers(numbers, operator, value) & ~frame.missing(name)
    return _compare_floats(numbers, operator, value)


def positions(frame: Frame, name: str, values: Sequence[Any]) -> npt.NDArray[np.integer[Any]]:
    """Which of the literals each value of a column equals, by its position; −1 where it equals none; shape (rows,)."""
    column, kind = frame[name], frame.kind(name)
    if isinstance(column, pa.Array) and pa.types.is_string(column.type):
        found = kernels.index_in(column, value_set=pa.array(values, pa.string()))
        return np.asarray(found.fill_null(-1).to_numpy())
    numbers = _numbers(frame, name)
    wanted: dict[Any, int] = {}
    for position, value in enumerate(_ordinal(kind, value) for value in values):
        if (held := _held(value, numbers.dtype.kind)) is not None:
            wanted.setdefault(held, position)
    if not wanted:
        return np.full(frame.rows, -1)
    keys = np.array(sorted(wanted), dtype=numbers.dtype)
    places = np.searchsorted(keys, numbers)
    places[places == keys.size] = 0
    found = np.where(keys[places] == numbers, np.array([wanted[key] for key in sorted(wanted)])[places], -1)
    if numbers.dtype.kind == "i":
        found[frame.missing(name)] = -1
    return found


def compare_columns(frame: Frame, left: str, operator: str, *, right: str) -> npt.NDArray[np.bool_]:
    """Whether the values of two columns compare so, row by row; shape (rows,)."""
    kinds = frame.kind(left), frame.kind(right)
    if "string" in kinds:
        return _mask(_KERNELS[operator](frame.arrow(left), frame.arrow(right)))
    if "date" in kinds or "timestamp" in kinds:
        order = _order_of_instants(_clock(frame, left), _clock(frame, right))
    else:
        order = _order_of_numbers(_numbers(frame, left), _numbers(frame, right))
    return order.holds(operator) & ~frame.missing(left) & ~frame.missing(right)


class _Order(NamedTuple):
    """How the values of two columns lie, row by row; neither is true where one is NaN."""

    less: npt.NDArray[np.bool_]
    equal: npt.NDArray[np.bool_]
    present: Any
    """Where neither is NaN."""

    def holds(self, operator: str) -> npt.NDArray[np.bool_]:
        """Whether the comparison is true."""
        masks = {"<": self.less, "<=": self.less | self.equal, "==": self.equal}
        if operator in masks:
            return masks[operator]
        opposite = {"!=": "==", ">=": "<", ">": "<="}[operator]
        return np.asarray(self.present & ~masks[opposite])


def _order_of_numbers(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> _Order:
    if left.dtype.kind == right.dtype.kind:
        present = ~(np.isnan(left) | np.isnan(right)) if left.dtype.kind == "f" else np.True_
        return _Order(left < right, left == right, present)
    if left.dtype.kind == "f":
        mirrored = _order_of_numbers(right, left)
        return mirrored._replace(less=np.asarray(mirrored.holds(">")))
    present = ~np.isnan(right)
    # Rounding keeps the order, so an integer that rounds to less than the float is less. Only ties may be false.
    rounded = left.astype(np.float64)
    less, equal = rounded < right, rounded == right
    ties = np.flatnonzero(equal & (np.abs(right) >= EXACT_INTEGERS))
    beyond = right[ties] >= 2.0**63
    whole = np.where(beyond, 0, right[ties]).astype(np.int64)
    less[ties] = beyond | (left[ties] < whole)
    equal[ties] = ~beyond & (left[ties] == whole)
    return _Order(less, equal, present)


def _clock(frame: Frame, name: str) -> tuple[npt.NDArray[np.int64], Any]:
    """Day since 1970 and µs of the day."""
    values = integers_of(frame.arrow(name))
    if frame.kind(name) == "date":
        return values, np.int64(0)
    days = values // DAY_MICROSECONDS
    return days, values - days * DAY_MICROSECONDS


def _order_of_instants(left: tuple[Any, Any], right: tuple[Any, Any]) -> _Order:
    same_day = left[0] == right[0]
    less = (left[0] < right[0]) | (same_day & (left[1] < right[1]))
    return _Order(less, same_day & (left[1] == right[1]), np.True_)


def _mask(found: ArrowArray) -> npt.NDArray[np.bool_]:
    return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False))  # noqa: FBT003  pyarrow's own


def _numbers(frame: Frame, name: str) -> npt.NDArray[Any]:
    """A column that is no text as int64, or as float64 where it holds floats."""
    column = frame[name]
    if isinstance(column, np.ndarray):
        return column if column.dtype.kind == "i" else frame.float64(name)
    if pa.types.is_floating(column.type):
        return frame.float64(name)
    return integers_of(column.cast(pa.int8()).cast(pa.int64()) if pa.types.is_boolean(column.type) else column)


def _instant(kind: str, text: str) -> int | None:
    """Days or µs since 1970; None where the text is no instant of the kind."""
    readers: dict[str, Callable[[str], int | None]] = {"date": days_of, "timestamp": micros_of}
    return readers[kind](text) if kind in readers else None


def _shown(value: Any) -> str:
    """A value as JSON has it."""
    return f"{json.dumps(value, ensure_ascii=False):.60}"


def _form(found: ColumnType, value: Any) -> str:
    """What a value would be written like, where texts have a form."""
    if not isinstance(value, str) or found.kind not in {"date", "timestamp"}:
        return ""
    return ", such as 2024-02-29" if found.kind == "date" else ", such as 2024-02-29T23:59:58Z"


def _ordinal(kind: str, value: Any) -> Any:
    """What compares as the value does. Python compares texts by code points, which are in the order of their bytes."""
    return _instant(kind, value) if kind in {"date", "timestamp"} else value


def _nearest(value: float) -> float:
    """The float nearest to a number of Python, which may be a long integer."""
    try:
        return float(value)
    except OverflowError:
        return -math.inf if value < 0 else math.inf


def _held(value: Any, kind: str) -> Any:
    """The value as an int64, or a float64; None where none equals it."""
    if kind == "f":
        edge = _nearest(value)
        return edge if edge == value else None
    low, high = INTEGER_BOUNDS["int64"]
    return int(value) if low <= value <= high and value == math.floor(value) else None


def _compare_floats(numbers: npt.NDArray[np.float64], operator: str, value: float) -> npt.NDArray[np.bool_]:
    """Exact where no float64 equals the value: it then lies between two."""
    edge = _nearest(value)
    if edge != value and operator in {"==", "!="}:
        return np.full(numbers.shape, operator == "!=") & ~np.isnan(numbers)
    if edge < value:
        operator = {">=": ">", "<": "<="}.get(operator, operator)
    elif edge > value:
        operator = {"<=": "<", ">": ">="}.get(operator, operator)
    found: npt.NDArray[np.bool_] = _COMPARE[operator](numbers, edge)
    return found & ~np.isnan(numbers) if operator == "!=" else found


def _compare_integers(numbers: npt.NDArray[Any], operator: str, value: float) -> npt.NDArray[np.bool_]:
    """Exact with any number, where numpy would round the integers to float64."""
    if value != math.floor(value):
        if operator in {"==", "!="}:
            return np.full(numbers.shape, operator == "!=")
        value = math.ceil(value) if operator in {"<", ">="} else math.floor(value)
    low, high = INTEGER_BOUNDS["int64"]
    if not low <= value <= high:
        return np.full(numbers.shape, bool(_COMPARE[operator](0, -1 if value < 0 else 1)))
    return np.asarray(_COMPARE[operator](numbers, np.int64(int(value))))
