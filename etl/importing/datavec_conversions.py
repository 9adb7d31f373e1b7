"""DataVec's conversions from one type of column to another, by the rules of Java's numbers and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.importing.datavec_schema import Meta, only
from etl.importing.datavec_steps import Lit
from etl.importing.refusals import refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.importing.datavec_draft import Column
    from etl.importing.datavec_nodes import Node
    from etl.importing.datavec_steps import Writer

__all__ = ["TRANSFORMS", "as_text", "saturated"]

_TEXTS = ("String", "Categorical")
_LARGEST = 2**31 - 1


def as_text(draft: Writer, column: Column, pointer: str) -> str:
    """Our column with a column's values as Java prints them."""
    kind = column.meta.type
    if kind in _TEXTS:
        return column.ours
    if kind in {"Double", "Float"}:
        refuse(pointer, f"{column.name!r:.80} is {kind}: Java prints 1.0 and 1.0E10, which has no counterpart here.")
    if column.may_be_null:
        draft.note("DataVec makes empty text of a number that is missing; here such a row is set aside.")
    number = draft.milliseconds(column.ours, column.name) if kind == "Time" else column.ours
    return draft.cast(number, "string", column.name)


def _to_double(body: Node, draft: Writer) -> None:
    only(body, "columnName")
    _make_double(draft, draft.read(body.text("columnName"), body.place("columnName")))


def _make_double(draft: Writer, column: Column) -> None:
    if column.meta.type == "Double":
        draft.replace(column.name, column.ours, kind=column.kind, meta=Meta("Double"))
        return
    ours = column.ours
    if column.meta.type in _TEXTS:
        draft.note("Texts such as 1f, 0x1F, NaN and Infinity, which Java reads as numbers, set the row aside here.")
    if column.meta.type == "Time":
        ours = draft.milliseconds(ours, column.name)
    else:
        if column.meta.type == "Long":
            draft.note("A row whose long is beyond ±2^53, which Java rounds, is set aside here.")
        ours = draft.cast(ours, "float64", column.name)
    draft.replace(column.name, ours, kind="float64", meta=Meta("Double"))


def _to_integer(body: Node, draft: Writer) -> None:
    only(body, "columnName")
    name = body.text("columnName")
    column = draft.read(name, body.place("columnName"))
    kind, ours = column.meta.type, column.ours
    if kind in _TEXTS:
        why = (
            "DataVec fails on text that is not a sign and digits; 0x and hexadecimal digits, which it reads, are none."
        )
        draft.guard({"regex_full_match": [ours, "[+-]?[0-9]+"]}, why)
    elif kind in {"Double", "Float"}:
        ours = saturated(draft, column)
    elif kind == "Time":
        ours = draft.milliseconds(ours, name)
    if kind in {"Long", "Time"}:
        draft.note("Java's whole numbers wrap around; here a row whose number is beyond 32 bits is set aside.")
    if kind != "Integer":
        ours = draft.cast(ours, "int32", name)
    draft.replace(name, ours, kind="int32" if kind != "Integer" else column.kind, meta=Meta("Integer"))


def saturated(draft: Writer, column: Column) -> str:
    """As Java converts a floating number: towards 0, the nearest int where it is beyond them, and NaN to 0."""
    name = column.name
    ours = draft.choose({"is_nan": column.ours}, (Lit(0.0), column.ours), name)
    ours = draft.calculated("max", (ours, float(-_LARGEST - 1)), name)
    ours = draft.calculated("min", (ours, float(_LARGEST)), name)
    return draft.function("trunc", ours, name)


def _to_float(body: Node, draft: Writer) -> None:
    only(body, "columnName")
    name = body.text("columnName")
    column = draft.find(name, body.place("columnName"))
    if column.meta.type in {*_TEXTS, "Double", "Time"}:
        reasons = {"Double": "of a double DataVec always fails", "Time": "a time does not fit a float"}
        reason = reasons.get(column.meta.type, "text is rounded once by Java and twice here")
        refuse(body.place("columnName"), f"ConvertToFloat of {column.meta.type} column {name!r:.80}: {reason}.")
    column = draft.read(name, body.place("columnName"))
    if column.meta.type == "Float":
        draft.replace(name, column.ours, kind=column.kind, meta=Meta("Float"))
        return
    if column.meta.type == "Long":
        draft.note("A row whose long is beyond ±2^53, which Java rounds, is set aside here.")
    draft.replace(name, draft.cast(column.ours, "float64", name), kind="float64", meta=Meta("Float"))


def _to_string(body: Node, draft: Writer) -> None:
    only(body, "columnName")
    name = body.text("columnName")
    column = draft.read(name, body.place("columnName"))
    draft.replace(name, as_text(draft, column, body.place("columnName")), kind="string", meta=Meta("String"))


def _parse_double(body: Node, draft: Writer) -> None:
    only(body)
    for name in draft.names():
        column = draft.find(name, body.pointer)
        if column.meta.type == "Categorical":
            refuse(
                body.pointer, f"categorical column {name!r:.80} becomes a number in rows, and not in DataVec's schema."
            )
        if column.meta.type == "String":
            _make_double(draft, draft.read(name, body.pointer))


TRANSFORMS: dict[str, Callable[[Node, Writer], None]] = {
    "ConvertToDouble": _to_double,
    "ConvertToFloat": _to_float,
    "ConvertToInteger": _to_integer,
    "ConvertToString": _to_string,
    "ParseDoubleTransform": _parse_double,
}
"""What writes the steps of each transform, by its class."""
