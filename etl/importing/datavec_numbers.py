"""DataVec's arithmetic, functions and normalizers.

Doubles are computed with as they are here. Floats have 32 bits there: each result is rounded to float32 before another
action reads it. Integers and longs wrap around there: a row whose result does not fit is set aside, and so is one whose
long is beyond ±2^53.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from etl.importing.datavec_draft import Column
from etl.importing.datavec_nodes import Node
from etl.importing.datavec_schema import Meta, only, single
from etl.importing.datavec_steps import FUNCTIONS, Lit
from etl.importing.refusals import collecting, give_up, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.importing.datavec_steps import Writer

__all__ = ["TRANSFORMS", "whole"]

_OPS = (
    "Add",
    "Subtract",
    "Multiply",
    "Divide",
    "Modulus",
    "ReverseSubtract",
    "ReverseDivide",
    "ScalarMin",
    "ScalarMax",
)
_COLUMN_OPS = ("Add", "Subtract", "Multiply", "Divide", "Modulus")
_BITS = {"Integer": 32, "Long": 64}


def whole(draft: Writer, column: str, place: tuple[str, str]) -> str:
    """A column of whole float64 as DataVec's Integer or Long; a row whose number is beyond the type is set aside.

    `place`: the type, and the name that the result is like.
    """
    kind, base = place
    draft.note("Java's whole numbers wrap around; here a row whose result is beyond the type is set aside.")
    if kind == "Long":
        _need_exact(draft, column)
    return draft.cast(column, _kind(kind), base)


def _need_exact(draft: Writer, column: str) -> None:
    largest = 2**53
    reach = {"all": [{"cmp": [column, ">", -largest]}, {"cmp": [column, "<", largest]}]}
    draft.guard(reach, "A long of ±2^53 and beyond may not be exact here.")


# ------------------------------------------------------------------------------------------ arithmetic with a number


def _math(kind: str, literal: Callable[[Node], float]) -> Callable[[Node, Writer], None]:
    def write(body: Node, draft: Writer) -> None:
        only(body, "columnName", "mathOp", "scalar")
        op, scalar = body.word("mathOp", _OPS), literal(body.member("scalar"))
        name = body.text("columnName")
        _refuse_scalar(op, scalar, body, is_whole=kind in _BITS)
        column = draft.read(name, body.place("columnName"), types=(kind,))
        operands = (scalar, column.ours) if op.startswith("Reverse") else (column.ours, scalar)
        result = _operation(draft, op, operands, place=(kind, name))
        meta = _bounds(column.meta, op, scalar)
        if kind in _BITS:
            draft.replace(name, whole(draft, result, (kind, name)), kind=_kind(kind), meta=meta)
        else:
            draft.replace(name, result, kind="float64", meta=meta)

    return write


def _kind(kind: str) -> str:
    return {"Integer": "int32", "Long": "int64"}[kind]


def _refuse_scalar(op: str, scalar: float, body: Node, *, is_whole: bool) -> None:
    pointer = body.place("scalar")
    if not math.isfinite(scalar):
        refuse(pointer, "a number that is not finite has no literal here.")
    if is_whole and scalar == 0 and op in {"Divide", "Modulus"}:
        refuse(pointer, f"{op} by 0, on which DataVec fails in every row.")
    if is_whole and abs(scalar) > 2**53:
        refuse(pointer, "a long beyond ±2^53 is not exact here.")


_WORDS = {
    "Add": "add",
    "Subtract": "sub",
    "Multiply": "mul",
    "Divide": "div",
    "Modulus": "mod",
    "ReverseSubtract": "sub",
    "ReverseDivide": "div",
    "ScalarMin": "min",
    "ScalarMax": "max",
}


def _operation(draft: Writer, op: str, operands: tuple[str | float, ...], *, place: tuple[str, str]) -> str:
    """The result as float64. `place`: the type that it has in DataVec, and the name that it is like.

    A float divided by zero is what IEEE 754 says; on a whole number divided by zero DataVec fails.
    """
    kind, base = place
    params = {}
    if _WORDS[op] in {"div", "mod"}:
        params["on_zero"] = "reject" if kind in _BITS else "as_is"
        if kind in _BITS:
            draft.note("DataVec fails where it divides a whole number by 0. Such a row is set aside here.")
    result = draft.calculated(_WORDS[op], operands, base, **params)
    return draft.function("trunc", result, base) if kind in _BITS and _WORDS[op] == "div" else result


def _bounds(meta: Meta, op: str, scalar: float) -> Meta:
    """The metadata behind an operation: DataVec computes it with the bounds too, and forgets what else is allowed."""
    low, high = (
        None if edge is None else _computed(op, edge, scalar, kind=meta.type) for edge in (meta.low, meta.high)
    )
    if low is not None and high is not None and low > high:
        low, high = high, low
    return Meta(meta.type, low, high)


def _computed(op: str, value: float, scalar: float, *, kind: str) -> float:
    """One number as Java computes it."""
    if kind in _BITS:
        return _computed_whole(op, (int(value), int(scalar)), _BITS[kind])
    number = np.float32 if kind == "Float" else np.float64
    left, right = number(value), number(scalar)
    with np.errstate(all="ignore"):
        results = {
            "Add": left + right,
            "Subtract": left - right,
            "Multiply": left * right,
            "Divide": left / right,
            "Modulus": np.fmod(left, right),
            "ReverseSubtract": right - left,
            "ReverseDivide": right / left,
            "ScalarMin": np.minimum(left, right),
            "ScalarMax": np.maximum(left, right),
        }
    return float(results[op])


def _computed_whole(op: str, pair: tuple[int, int], bits: int) -> int:
    left, right = pair if not op.startswith("Reverse") else (pair[1], pair[0])
    word = op.removeprefix("Reverse")
    if word in {"Divide", "Modulus"}:
        if right == 0:
            return 0
        quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        result = quotient if word == "Divide" else left - quotient * right
    else:
        results: dict[str, int] = {
            "Add": left + right,
            "Subtract": left - right,
            "Multiply": left * right,
            "ScalarMin": min(pair),
            "ScalarMax": max(pair),
        }
        result = results[word]
    return (result + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


# --------------------------------------------------------------------------------------------- arithmetic of columns


def _columns_math(kind: str, types: tuple[str, ...]) -> Callable[[Node, Writer], None]:
    def write(body: Node, draft: Writer) -> None:
        only(body, "newColumnName", "mathOp", "columns", "columnIdxs")
        op, base = body.word("mathOp", _COLUMN_OPS), body.text("newColumnName")
        nodes = body.elements("columns")
        if len(nodes) < 2 or (len(nodes) > 2 and op not in {"Add", "Multiply"}):  # noqa: PLR2004  a pair
            refuse(body.place("columns"), f"{op} does not take {len(nodes)} columns.")
        columns = []
        for node in nodes:
            with collecting(draft.problems):
                columns.append(draft.read(node.as_text(), node.pointer, types=types).ours)
        if len(columns) < len(nodes):
            give_up()
        result = _of_columns(draft, columns, op, place=(kind, base))
        ours = whole(draft, result, (kind, base)) if kind in _BITS else result
        column = Column(base, Meta(kind), ours, _kind(kind) if kind in _BITS else "float64")
        draft.add(column, body.place("newColumnName"))

    return write


def _of_columns(draft: Writer, columns: list[str], op: str, *, place: tuple[str, str]) -> str:
    """From the left to the right, each result rounded to the type."""
    kind, base = place
    result = columns[0]
    for index, column in enumerate(columns[1:], 1):
        result = _operation(draft, op, (result, column), place=place)
        if index < len(columns) - 1 and kind == "Float":
            result = draft.cast(result, "float32", base)
        elif index < len(columns) - 1 and kind == "Long":
            _need_exact(draft, result)
    if op == "Add" and kind not in _BITS:
        # A sum begins with 0.0 in Java, so that of negative zeros is no negative zero.
        result = draft.calculated("add", (result, 0.0), base)
    return result


# ------------------------------------------------------------------------------------------ functions and normalizers


def _function(kind: str, *types: str) -> Callable[[Node, Writer], None]:
    def write(body: Node, draft: Writer) -> None:
        only(body, "columnName", "mathFunction")
        function, name = body.text("mathFunction"), body.text("columnName")
        if function not in FUNCTIONS:
            refuse(body.place("mathFunction"), f"function {function:.60} has no counterpart here.")
        # Of a column of another type DataVec makes one of the function's own.
        column = _rounded(draft, draft.read(name, body.place("columnName"), types=(kind, *types)))
        meta = column.meta if column.meta.type == kind else Meta(kind)
        draft.replace(name, draft.function(function.lower(), column.ours, name), kind="float64", meta=meta)

    return write


_NUMBERS = ("Double", "Float", "Integer", "Boolean", "Long")
"""Types that are read as doubles."""


def _standardize(body: Node, draft: Writer) -> None:
    only(body, "columnName", "mean", "stdev")
    mean, stdev = _finite(body, "mean"), _finite(body, "stdev")
    column, name = _normalized(body, draft)
    centred = draft.calculated("sub", (column.ours, mean), name)
    result = draft.calculated("div", (centred, stdev), name, on_zero="as_is")
    meta = column.meta if column.meta.type == "Double" else Meta("Double")
    draft.replace(name, result, kind="float64", meta=meta)


def _subtract_mean(body: Node, draft: Writer) -> None:
    only(body, "columnName", "mean")
    mean = _finite(body, "mean")
    column, name = _normalized(body, draft)
    meta = column.meta if column.meta.type == "Double" else Meta("Double")
    draft.replace(name, draft.calculated("sub", (column.ours, mean), name), kind="float64", meta=meta)


def _minmax(body: Node, draft: Writer) -> None:
    only(body, "columnName", "min", "max", "newMin", "newMax", "ratio")
    low, high, new_low, new_high = (_finite(body, key) for key in ("min", "max", "newMin", "newMax"))
    with np.errstate(all="ignore"):
        ratio = float(np.float64(new_high - new_low) / np.float64(high - low))
    if not math.isfinite(ratio):
        refuse(body.place("max"), "max equal to min makes NaN or ±inf of all values in DataVec.")
    column, name = _normalized(body, draft)
    centred = draft.calculated("sub", (column.ours, low), name)
    scaled = draft.calculated("mul", (centred, ratio), name)
    result = draft.calculated("add", (scaled, new_low), name)
    _put_zero_for_nan(draft, column, result, meta=Meta("Double", new_low, new_high))


def _log2(body: Node, draft: Writer) -> None:
    only(body, "columnName", "columnMean", "columnMin", "scalingFactor", "log2")
    mean, low, factor = (_finite(body, key) for key in ("columnMean", "columnMin", "scalingFactor"))
    if not math.isfinite(mean - low) or mean == low:
        refuse(body.place("columnMin"), "columnMin equal to columnMean makes NaN or ±inf of all values in DataVec.")
    column, name = _normalized(body, draft)
    value = draft.calculated("sub", (column.ours, low), name)
    value = draft.calculated("div", (value, mean - low), name)
    value = draft.calculated("add", (value, 1.0), name)
    value = draft.function("log", value, name)
    value = draft.calculated("div", (value, math.log(2)), name)
    value = draft.calculated("mul", (value, factor), name)
    _put_zero_for_nan(draft, column, value, meta=Meta("Double", 0.0))


def _put_zero_for_nan(draft: Writer, column: Column, result: str, *, meta: Meta) -> None:
    """These normalizers make 0 of NaN, and of nothing else."""
    if column.meta.type in {"Double", "Float"}:
        result = draft.choose({"is_nan": column.ours}, (Lit(0.0), result), column.name)
    draft.replace(column.name, result, kind="float64", meta=meta)


def _rounded(draft: Writer, column: Column) -> Column:
    """A column that is read as double."""
    if column.meta.type == "Long":
        draft.note("A row whose long is beyond ±2^53, which Java rounds, is set aside here.")
    return column


def _normalized(body: Node, draft: Writer) -> tuple[Column, str]:
    name = body.text("columnName")
    return _rounded(draft, draft.read(name, body.place("columnName"), types=_NUMBERS)), name


def _finite(body: Node, key: str) -> float:
    value = body.number(key)
    if not math.isfinite(value):
        refuse(body.place(key), "a number that is not finite has no literal here.")
    return value


TRANSFORMS: dict[str, Callable[[Node, Writer], None]] = {
    "DoubleColumnsMathOpTransform": _columns_math("Double", _NUMBERS),
    "DoubleMathFunctionTransform": _function("Double", *_NUMBERS),
    "DoubleMathOpTransform": _math("Double", Node.as_number),
    "FloatColumnsMathOpTransform": _columns_math("Float", ("Float",)),
    "FloatMathFunctionTransform": _function("Float"),
    "FloatMathOpTransform": _math("Float", lambda node: single(node.as_number())),
    "IntegerColumnsMathOpTransform": _columns_math("Integer", ("Integer", "Boolean")),
    "IntegerMathOpTransform": _math("Integer", Node.as_integer),
    "Log2Normalizer": _log2,
    "LongColumnsMathOpTransform": _columns_math("Long", ("Long", "Integer", "Boolean")),
    "LongMathOpTransform": _math("Long", lambda node: node.as_integer(bits=64)),
    "MinMaxNormalizer": _minmax,
    "StandardizeNormalizer": _standardize,
    "SubtractMeanNormalizer": _subtract_mean,
}
"""What writes the steps of each transform, by its class."""
