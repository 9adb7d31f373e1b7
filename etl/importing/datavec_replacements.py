"""DataVec's replacements of values in the rows for which a condition holds."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

from etl.importing.datavec_conditions import condition, instant, invalid
from etl.importing.datavec_schema import identify, only, single
from etl.importing.datavec_steps import Lit
from etl.importing.refusals import refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.importing.datavec_draft import Column
    from etl.importing.datavec_nodes import Node
    from etl.importing.datavec_steps import Writer

__all__ = ["TRANSFORMS", "writable"]

_NUMBERS = {"DoubleWritable", "FloatWritable", "IntWritable", "LongWritable"}
_NUMERIC = ("Integer", "Long", "Double", "Float")
_WIDER = {
    ("Double", "Integer"),
    ("Double", "Float"),
    ("Long", "Integer"),
    ("String", "Categorical"),
    ("Categorical", "String"),
}
"""Pairs of types of which the first holds each value of the second as the same number or text."""


_HANDED_ON = "DataVec hands a missing one on, which behind a step cannot be told from NaN."


def writable(node: Node, kind: str) -> Lit:
    """A value of DataVec's as a literal of a column of a type."""
    name, body = identify(node)
    if name == "Text" and kind in {"String", "Categorical"}:
        return Lit(_text(body))
    if name == "BooleanWritable" and kind == "Boolean":
        return Lit(body.flag("value"))
    if name == "LongWritable" and kind == "Time":
        return Lit(instant(body.integer("value", bits=64), body.place("value")))
    if name not in _NUMBERS or kind not in _NUMERIC:
        refuse(node.pointer, f"{name:.60} in a column of type {kind}, of whose values it is none.")
    return Lit(_number(name, body, kind))


def _text(body: Node) -> str:
    """Text, which DataVec writes as UTF-8 bytes in base64, of which only so many count."""
    only(body, "bytes", "length")
    try:
        return base64.b64decode(body.text("bytes"), validate=True)[: body.integer("length")].decode()
    except ValueError:
        refuse(body.place("bytes"), "should be text: UTF-8 bytes in base64.")


def _number(name: str, body: Node, kind: str) -> float:
    value: float
    if name in {"IntWritable", "LongWritable"}:
        value = body.integer("value", bits=32 if name == "IntWritable" else 64)
    else:
        value = body.number("value")
    if name == "FloatWritable":
        value = single(value)
    if not math.isfinite(value):
        refuse(body.place("value"), "a number that is not finite has no literal here.")
    if kind in {"Integer", "Long"}:
        limit = 2**31 if kind == "Integer" else 2**63
        if value != int(value) or not -limit <= value < limit:
            refuse(body.place("value"), f"a number that {kind} does not hold: what Java makes of it is not imported.")
        return int(value)
    if float(value) != value or (kind == "Float" and single(value) != value):
        refuse(body.place("value"), f"a number that {kind} does not hold: what Java makes of it is not imported.")
    return float(value)


def _replace(body: Node, draft: Writer) -> None:
    only(body, "columnToReplace", "newValue", "condition", "columnToReplaceIdx")
    name, pointer = body.text("columnToReplace"), body.place("columnToReplace")
    column = draft.find(name, pointer)
    value = writable(body.member("newValue"), column.meta.type)
    _put(body, draft, value)


def _put(body: Node, draft: Writer, value: Lit | Column) -> None:
    """The value where the condition holds, else what is there; a missing value stays, unless it is what is replaced."""
    holds = condition(body.member("condition"), draft)
    name, pointer = body.text("columnToReplace"), body.place("columnToReplace")
    treats_missing = _treats_missing(body.member("condition"), name)
    column = draft.peek(name, pointer) if treats_missing else draft.take(name, pointer)
    is_handed_on = column.may_be_null and not treats_missing
    if is_handed_on and column.kind in {"float64", "float32"}:
        draft.need_values(column, _HANDED_ON)
        is_handed_on = False
    _choose(draft, column, holds, values=(value, column))
    if is_handed_on:
        draft.may_be_missing(name)


def _treats_missing(node: Node, name: str) -> bool:
    """Whether a condition holds wherever the column has no value."""
    kind, body = identify(node)
    if kind == "BooleanCondition" and body.value.get("type") == "OR":
        return any(_treats_missing(inner, name) for inner in body.elements("conditions"))
    treats = kind in {"InvalidValueColumnCondition", "NullWritableColumnCondition"}
    return treats and body.text("columnName") == name


def _choose(draft: Writer, column: Column, holds: dict[str, Any], *, values: tuple[Lit | Column, Lit | Column]) -> None:
    """Let a column have one of two values, of which DataVec's type is the column's."""
    kinds = {value.kind for value in values if not isinstance(value, Lit)}
    kind = kinds.pop() if len(kinds) == 1 else _KINDS_OF_LITERALS.get(column.meta.type, "float64")
    then, otherwise = (value if isinstance(value, Lit) else value.ours for value in values)
    if isinstance(then, Lit) and isinstance(otherwise, Lit) and kind == "timestamp":
        # Two texts would give text.
        then = draft.constant(then, kind, column.name)
    ours = draft.choose(holds, (then, otherwise), column.name)
    draft.replace(column.name, ours, kind=kind)


_KINDS_OF_LITERALS = {"String": "string", "Categorical": "string", "Boolean": "bool", "Time": "timestamp"}
"""Of what is chosen from two literals; numbers are float64."""


def _replace_or_default(body: Node, draft: Writer) -> None:
    only(body, "columnToReplace", "yesVal", "noVal", "condition", "condiiton", "filterColIdx")
    name = body.text("columnToReplace")
    column = draft.find(name, body.place("columnToReplace"))
    values = writable(body.member("yesVal"), column.meta.type), writable(body.member("noVal"), column.meta.type)
    holds = condition(body.member("condition"), draft)
    _choose(draft, draft.find(name, body.place("columnToReplace")), holds, values=values)


def _copy(body: Node, draft: Writer) -> None:
    only(body, "columnToReplace", "sourceColumn", "condition", "columnToReplaceIdx", "sourceColumnIdx")
    name, pointer = body.text("columnToReplace"), body.place("columnToReplace")
    column, source = draft.find(name, pointer), body.text("sourceColumn")
    found = draft.find(source, body.place("sourceColumn")).meta.type
    if found != column.meta.type and (column.meta.type, found) not in _WIDER:
        refuse(body.place("sourceColumn"), f"{source!r:.80} is {found}, whose values are none of {column.meta.type}.")
    copied = draft.take(source, body.place("sourceColumn"))
    draft.need_values(copied, _HANDED_ON)
    _put(body, draft, copied)


def _replace_empty_integer(body: Node, draft: Writer) -> None:
    only(body, "columnName", "value")
    value, name = body.integer("value"), body.text("columnName")
    column = _whole(body, draft)
    if not column.may_be_null:
        draft.note("The column has a value in every row by now.")
        return
    _choose(draft, draft.peek(name, body.place("columnName")), {"is_null": column.ours}, values=(Lit(value), column))


def _replace_invalid_integer(body: Node, draft: Writer) -> None:
    only(body, "columnName", "value")
    value, name = body.integer("value"), body.text("columnName")
    _whole(body, draft)
    column = draft.peek(name, body.place("columnName"))
    _choose(draft, column, invalid(column, draft), values=(Lit(value), column))


def _whole(body: Node, draft: Writer) -> Column:
    name = body.text("columnName")
    column = draft.find(name, body.place("columnName"))
    if column.meta.type not in {"Integer", "Long"}:
        refuse(body.place("columnName"), f"takes a column of whole numbers, {name!r:.80} is {column.meta.type}.")
    return column


TRANSFORMS: dict[str, Callable[[Node, Writer], None]] = {
    "ConditionalCopyValueTransform": _copy,
    "ConditionalReplaceValueTransform": _replace,
    "ConditionalReplaceValueTransformWithDefault": _replace_or_default,
    "ReplaceEmptyIntegerWithValueTransform": _replace_empty_integer,
    "ReplaceInvalidWithIntegerTransform": _replace_invalid_integer,
}
"""What writes the steps of each transform, by its class."""
