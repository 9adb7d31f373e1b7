"""DataVec's conditions as conditions of ours, true for the same rows.

Of NaN, Java says what IEEE 754 does: it is unequal to everything, and neither less nor greater. Ours are false for it
in every comparison, so `NotEqual` becomes `not` of `==`. Times have milliseconds there and microseconds here: a row's
time compares as the millisecond that it is in.
"""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from etl.importing.datavec_conversions import saturated
from etl.importing.datavec_nodes import Node
from etl.importing.datavec_schema import Meta, identify, only, single
from etl.importing.java_regex import LINE_END, translated
from etl.importing.refusals import collecting, give_up, refuse
from etl.patterns import Pattern

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.importing.datavec_draft import Column
    from etl.importing.datavec_steps import Writer

__all__ = [
    "ALWAYS",
    "NEVER",
    "check_pattern",
    "condition",
    "instant",
    "invalid",
    "negated",
    "pattern_of",
    "takes_no_missing",
]

ALWAYS: dict[str, Any] = {"all": []}
"""True for every row."""

NEVER: dict[str, Any] = {"any": []}
"""True for no row."""

_OPERATORS = {
    "LessThan": "<",
    "LessOrEqual": "<=",
    "GreaterThan": ">",
    "GreaterOrEqual": ">=",
    "Equal": "==",
    "NotEqual": "!=",
}
_SETS = ("InSet", "NotInSet")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST = sys.float_info.max
_TEXTS = ("String", "Categorical")


def condition(node: Node, draft: Writer, unread: frozenset[str] = frozenset()) -> dict[str, Any]:
    """One condition. `unread`: columns that it does not reach in rows where they are missing."""
    kind, body = identify(node)
    if kind not in _CONDITIONS:
        refuse(node.pointer, f"{kind} has no counterpart here.")
    return _CONDITIONS[kind](body, draft, unread)


def invalid(column: Column, draft: Writer) -> dict[str, Any]:
    """Whether a value breaks the column's metadata; a missing one does, except where any text is valid."""
    meta, ours = column.meta, column.ours
    parts: list[dict[str, Any]] = []
    if column.may_be_null and takes_no_missing(meta):
        parts.append({"is_null": ours})
    for edge, operator in ((meta.low, "<"), (meta.high, ">")):
        if edge is not None and not math.isnan(edge):
            parts.append(_compared(column, operator, edge))
    if meta.allow_infinite and parts:
        parts = [{"all": [{"any": parts}, negated(_infinite(ours))]}]
    if meta.type == "Categorical":
        parts.append(negated({"in": [ours, list(meta.states)]}))
    parts.extend(_invalid_text(column, draft))
    return parts[0] if len(parts) == 1 else {"any": parts}


def takes_no_missing(meta: Meta) -> bool:
    """Whether a value that is missing is invalid: not where any text is valid, as DataVec has a missing one as text."""
    is_free = not meta.shortest and meta.longest is None and meta.regex is None
    return meta.type != "Boolean" and not (meta.type == "String" and is_free)


def negated(inner: dict[str, Any]) -> dict[str, Any]:
    """True where the inner one is false."""
    return {"not": inner}


def pattern_of(node: Node, ours: str, draft: Writer) -> str:
    """A regex that whole texts are matched with."""
    regex = node.as_text()
    # At the end of a whole match, `$` asks for nothing.
    if regex.endswith("$") and not regex.endswith("\\$") and regex.count("$") == 1:
        regex = regex[:-1]
    try:
        found = translated(regex)
    except ValueError as error:
        refuse(node.pointer, f"regex {error}.")
    check_pattern(found.pattern, node.pointer)
    if found.has_end:
        why = "A $ of Java also stands before a line end that ends the text, and here does not."
        draft.guard(negated({"regex_full_match": [ours, rf"(?s).*{LINE_END}"]}), why)
    return found.pattern or "(?:)"


def check_pattern(pattern: str, pointer: str) -> None:
    """Refuse a pattern that a spec may not have, such as one that is too long."""
    try:
        TypeAdapter(Pattern).validate_python(pattern or "(?:)")
    except ValidationError as error:
        refuse(pointer, f"the regex, {pattern:.60} for RE2, is refused: {error.errors()[0]['msg']}.")


def instant(milliseconds: int, pointer: str) -> str:
    """Milliseconds since 1970 as a text that conditions compare with."""
    try:
        return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        refuse(pointer, "a time outside of the years 1 to 9999 has no literal here.")


def _invalid_text(column: Column, draft: Writer) -> list[dict[str, Any]]:
    meta, ours = column.meta, column.ours
    parts: list[dict[str, Any]] = []
    if meta.shortest or meta.longest is not None:
        # Java counts a character beyond U+FFFF twice.
        pairs = draft.replaced(ours, (r"[\x{10000}-\x{10FFFF}]", "__"), f"{ours}_units")
        units = draft.length(pairs, f"{ours}_length")
        parts += [{"cmp": [units, "<", meta.shortest]}] if meta.shortest else []
        parts += [] if meta.longest is None else [{"cmp": [units, ">", meta.longest]}]
    if meta.regex is not None:
        parts.append(negated({"regex_full_match": [ours, pattern_of(meta.regex, ours, draft)]}))
    return parts


def _reads(body: Node, draft: Writer, unread: frozenset[str]) -> Column:
    """The condition's column."""
    name = body.text("columnName")
    return draft.peek(name, body.place("columnName")) if name in unread else draft.read(name, body.place("columnName"))


def _on_numbers(kind: str, literal: Callable[[Node], float], types: tuple[str, ...]) -> Callable[..., dict[str, Any]]:
    """A condition on numbers of a type: how its literals are read, and the types of columns that it reads exactly."""

    def read(body: Node, draft: Writer, unread: frozenset[str]) -> dict[str, Any]:
        only(body, "columnName", "op", "value", "set")
        operator = body.word("op", (*_OPERATORS, *_SETS))
        is_set = operator in _SETS
        values = [literal(node) for node in (body.elements("set") if is_set else [body.member("value")])]
        column = _reads(body, draft, unread)
        if kind == "Integer" and column.meta.type in {"Double", "Float"}:
            column = column._replace(ours=saturated(draft, column), meta=Meta("Integer"))
        if kind == "Double" and column.meta.type == "Long":
            reach = {"between": [column.ours, -(2**53), 2**53]}
            draft.guard(reach, "Java rounds a long beyond ±2^53 before it compares.")
        if column.meta.type not in types:
            message = f"compares {column.meta.type} column {column.name!r:.80} after a conversion without counterpart"
            refuse(body.place("columnName"), f"{message}; it takes {' or '.join(types)}.")
        if not is_set:
            return _compared(column, _OPERATORS[operator], values[0], pointer=body.place("value"))
        found = _any([_boxed_equal(column, value, draft, place=body.place("set")) for value in values])
        return negated(found) if operator == "NotInSet" else found

    return read


def _any(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return parts[0] if len(parts) == 1 else {"any": parts}


def _boxed_equal(column: Column, value: float, draft: Writer, *, place: str) -> dict[str, Any]:
    """As a set of Java's finds it: there NaN equals itself, and −0.0 is not 0.0."""
    if math.isnan(value):
        return _is_nan(column)
    equal = _compared(column, "==", value, pointer=place)
    if value != 0:
        return equal
    if column.meta.type not in {"Double", "Float"}:
        return equal if math.copysign(1, value) > 0 else NEVER
    # 1 ÷ 0 has the sign of the zero.
    reciprocal = draft.calculated("div", (1.0, column.ours), f"{column.ours}_reciprocal", on_zero="as_is")
    return {"all": [equal, {"cmp": [reciprocal, ">" if math.copysign(1, value) > 0 else "<", 0.0]}]}


def _compared(column: Column, operator: str, value: float, *, pointer: str = "") -> dict[str, Any]:
    """A comparison with a number, true for the rows for which Java's is."""
    ours = column.ours
    if column.meta.type == "Time":
        return _compared_times(ours, operator, (instant(int(value), pointer), instant(int(value) + 1, pointer)))
    if operator == "!=":
        return negated(_compared(column, "==", value, pointer=pointer))
    if math.isnan(value):
        return NEVER
    if math.isinf(value):
        return _compared_with_infinity(column, operator, value)
    return {"cmp": [ours, operator, value]}


def _compared_with_infinity(column: Column, operator: str, value: float) -> dict[str, Any]:
    """By the largest number: literals here are finite."""
    edge = math.copysign(_LARGEST, value)
    is_it = {"cmp": [column.ours, ">" if value > 0 else "<", edge]}
    is_number = negated(_is_nan(column))
    if operator == "==":
        return is_it
    if operator[0] == ("<" if value < 0 else ">"):
        return is_it if operator.endswith("=") else NEVER
    return is_number if operator.endswith("=") else {"all": [is_number, negated(is_it)]}


def _compared_times(ours: str, operator: str, millisecond: tuple[str, str]) -> dict[str, Any]:
    """By the begin of a millisecond and that of the next."""
    begin, end = millisecond
    within = {"all": [{"cmp": [ours, ">=", begin]}, {"cmp": [ours, "<", end]}]}
    simple = {"<": ["<", begin], ">=": [">=", begin], "<=": ["<", end], ">": [">=", end]}
    if operator in simple:
        return {"cmp": [ours, *simple[operator]]}
    return within if operator == "==" else negated(within)


def _on_texts(body: Node, draft: Writer, unread: frozenset[str]) -> dict[str, Any]:
    only(body, "columnName", "op", "value", "set")
    operator = body.word("op", ("Equal", "NotEqual", *_SETS))
    values = body.texts("set") if operator in _SETS else [body.text("value")]
    column = _reads(body, draft, unread)
    _need_text(column, body)
    same: dict[str, Any] = {"in": [column.ours, values]}
    if operator not in _SETS:
        same = {"cmp": [column.ours, "==", values[0]]}
    return negated(same) if operator in {"NotEqual", "NotInSet"} else same


def _need_text(column: Column, body: Node) -> None:
    if column.meta.type not in _TEXTS:
        message = f"compares {column.meta.type} column {column.name!r:.80} as the text that Java prints"
        refuse(body.place("columnName"), f"{message}, which has no counterpart here.")


def _on_regex(body: Node, draft: Writer, unread: frozenset[str]) -> dict[str, Any]:
    only(body, "columnName", "regex")
    regex = body.member("regex")
    column = _reads(body, draft, unread)
    _need_text(column, body)
    return {"regex_full_match": [column.ours, pattern_of(regex, column.ours, draft)]}


def _infinite(ours: str) -> dict[str, Any]:
    return {"any": [{"cmp": [ours, ">", _LARGEST]}, {"cmp": [ours, "<", -_LARGEST]}]}


def _on_infinite(body: Node, draft: Writer, unread: frozenset[str]) -> dict[str, Any]:
    only(body, "columnName")
    column = _reads(body, draft, unread)
    _need_number(column, body)
    return _infinite(column.ours) if column.meta.type in {"Double", "Float"} else NEVER


def _on_nan(body: Node, draft: Writer, unread: frozenset[str]) -> dict[str, Any]:
    only(body, "columnName")
    column = _reads(body, draft, unread)
    _need_number(column, body)
    return _is_nan(column)


def _is_nan(column: Column) -> dict[str, Any]:
    return {"is_nan": column.ours} if column.meta.type in {"Double", "Float"} else NEVER


def _need_number(column: Column, body: Node) -> None:
    if column.meta.type in _TEXTS:
        message = f"reads text column {column.name!r:.80} as a number as Java does, which has no counterpart here"
        refuse(body.place("columnName"), f"{message}; convert it in an action before.")


def _on_null(body: Node, draft: Writer, _unread: frozenset[str]) -> dict[str, Any]:
    only(body, "columnName")
    column = draft.peek(body.text("columnName"), body.place("columnName"))
    return {"is_null": column.ours} if column.may_be_null else NEVER


def _on_invalid(body: Node, draft: Writer, _unread: frozenset[str]) -> dict[str, Any]:
    only(body, "columnName")
    return invalid(draft.peek(body.text("columnName"), body.place("columnName")), draft)


def _trivial(body: Node, draft: Writer, _unread: frozenset[str]) -> dict[str, Any]:
    only(body, "columnName", "name")
    if body.has("columnName"):
        draft.find(body.text("columnName"), body.place("columnName"))
    return ALWAYS


def _boolean(body: Node, draft: Writer, unread: frozenset[str]) -> dict[str, Any]:
    only(body, "type", "conditions")
    kind = body.word("type", ("AND", "OR", "NOT", "XOR"))
    nodes = body.elements("conditions")
    if not nodes or len(nodes) != {"NOT": 1, "XOR": 2}.get(kind, len(nodes)):
        refuse(body.place("conditions"), f"{kind} does not take {len(nodes)} conditions.")
    parts: list[dict[str, Any]] = []
    for node in nodes:
        with collecting(draft.problems):
            parts.append(condition(node, draft, unread))
        unread |= _settles(node, kind)
    if len(parts) < len(nodes):
        give_up()
    if kind == "NOT":
        return negated(parts[0])
    if kind == "XOR":
        first, second = parts
        return {"any": [{"all": [first, negated(second)]}, {"all": [negated(first), second]}]}
    return {"all" if kind == "AND" else "any": parts}


def _settles(node: Node, kind: str) -> frozenset[str]:
    """Columns that Java does not go on to read in rows where they are missing: the result is settled by then."""
    name, body = identify(node)
    if kind == "AND" and name == "BooleanCondition" and body.value.get("type") == "NOT":
        inner = body.elements("conditions")
        return _settles(inner[0], "OR") if len(inner) == 1 else frozenset()
    if kind == "OR" and name in {"InvalidValueColumnCondition", "NullWritableColumnCondition"}:
        return frozenset({body.text("columnName")})
    return frozenset()


_LONG = ("Long", "Integer", "Time")
_CONDITIONS: dict[str, Callable[[Node, Writer, frozenset[str]], dict[str, Any]]] = {
    "BooleanCondition": _boolean,
    "CategoricalColumnCondition": _on_texts,
    "DoubleColumnCondition": _on_numbers("Double", Node.as_number, ("Double", "Float", "Integer", "Long")),
    "FloatColumnCondition": _on_numbers("Float", lambda node: single(node.as_number()), ("Float",)),
    "InfiniteColumnCondition": _on_infinite,
    "IntegerColumnCondition": _on_numbers("Integer", Node.as_integer, ("Integer",)),
    "InvalidValueColumnCondition": _on_invalid,
    "LongColumnCondition": _on_numbers("Long", lambda node: node.as_integer(bits=64), _LONG),
    "NaNColumnCondition": _on_nan,
    "NullWritableColumnCondition": _on_null,
    "StringColumnCondition": _on_texts,
    "StringRegexColumnCondition": _on_regex,
    "TimeColumnCondition": _on_numbers("Long", lambda node: node.as_integer(bits=64), _LONG),
    "TrivialColumnCondition": _trivial,
}
