"""DataVec's times: text that becomes a time, parts of times, and arithmetic. Only UTC has a counterpart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.importing.datavec_conditions import instant
from etl.importing.datavec_draft import Column
from etl.importing.datavec_schema import UTC, Meta, only
from etl.importing.datavec_steps import Lit
from etl.importing.joda_format import format_of
from etl.importing.refusals import collecting, give_up, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.importing.datavec_nodes import Node
    from etl.importing.datavec_steps import Writer

__all__ = ["TRANSFORMS"]

_PARTS = {
    "dayOfMonth": "day",
    "dayOfWeek": "dow",
    "dayOfYear": "doy",
    "hourOfDay": "hour",
    "millisOfSecond": "millisecond",
    "minuteOfDay": "minute_of_day",
    "minuteOfHour": "minute",
    "monthOfYear": "month",
    "secondOfDay": "second_of_day",
    "secondOfMinute": "second",
    "weekOfWeekyear": "iso_week",
    "weekyear": "iso_year",
    "year": "year",
}
"""Our part for each field of Joda's that has one."""

_UNITS = {
    "MILLISECONDS": "millisecond",
    "SECONDS": "second",
    "MINUTES": "minute",
    "HOURS": "hour",
    "DAYS": "day",
}


_GUESSES = (
    *("YYYY-MM-dd'T'HH:mm:ss", "YYYY-MM-dd", "YYYY-MM-dd'T'HH:mm:ss'Z'", "YYYY-MM-dd'T'HH:mm:ssZ"),
    *("YYYY-MM-dd HH:mm:ss", "MM/dd/YYYY HH:mm:ss", "MM/dd/YYYY'T'HH:mm:ssZ", "MM/dd/YYYY'T'HH:mm:ss"),
    *("YYYY:MM:dd HH:mm:ss", "YYYYMMdd", "MM/dd/YYYY HH:mm"),
)
"""What DataVec tries, in this order, where it is given no format; without those that the fraction is gone for."""

_MOST = 2**62
"""Microseconds; far less than would overflow a timestamp."""


def _need_utc(zone: str, pointer: str) -> None:
    if zone not in UTC:
        refuse(pointer, f"time zone {zone:.60}: every time is UTC here.")


def _of_text(body: Node, draft: Writer) -> None:
    only(body, "columnName", "timeFormat", "timeZone", "locale", "minValidTime", "maxValidTime")
    _need_utc(body.text("timeZone"), body.place("timeZone"))
    wanted = body.text("timeFormat") if body.has("timeFormat") else None
    try:
        formats = [format_of(form) for form in ([wanted] if wanted else _GUESSES)]
    except ValueError as error:
        refuse(body.place("timeFormat"), f"the format {error}.")
    low, high = (body.integer(key, bits=64) if body.has(key) else None for key in ("minValidTime", "maxValidTime"))
    name = body.text("columnName")
    column = draft.read(name, body.place("columnName"), types=("String", "Categorical"))
    draft.note(
        "DataVec fails on text of another form. It also reads numbers of other lengths, names of months by the locale "
        "that it runs in, years before 1, and white space around a text that is no space; such a row is set aside here."
    )
    # Where it has to guess the format, DataVec leaves out fractions of a second before.
    text = column.ours if wanted else draft.replaced(column.ours, (r"\.[0-9]+", ""), name)
    ours = draft.parsed_time(text, formats, name, place=body.place("timeFormat"))
    draft.replace(name, ours, kind="timestamp", meta=Meta("Time", low, high))


def _derive(body: Node, draft: Writer) -> None:
    only(body, "columnName", "insertAfter", "inputTimeZone", "derivedColumns", "insertAfterIdx", "deriveFromIdx")
    nodes = body.elements("derivedColumns")
    wanted: list[tuple[str, str, Node]] = []
    for node in nodes:
        with collecting(draft.problems):
            wanted.append((*_derived(node), node))
    if len(wanted) < len(nodes):
        give_up()
    after = body.text("insertAfter")
    draft.find(after, body.place("insertAfter"))
    column = draft.read(body.text("columnName"), body.place("columnName"), types=("Time",))
    # The zone that the action names is not the one that DataVec uses: it takes the column's.
    _need_utc(column.meta.zone, body.place("columnName"))
    for name, part, node in wanted:
        ours = draft.date_part(column.ours, part, name)
        draft.add(Column(name, Meta("Integer"), ours, "float64"), node.pointer, after=after)
        after = name


def _derived(node: Node) -> tuple[str, str]:
    """Name and part of one derived column."""
    only(node, "columnName", "columnType", "format", "dateTimeZone", "fieldType")
    kind = node.text("columnType")
    if kind != "Integer":
        refuse(node.place("columnType"), f"a derived column of type {kind:.60} has no counterpart.")
    field = node.member("fieldType")
    if not field.has("fieldType"):
        refuse(field.pointer, 'key "fieldType" is required.')
    name = field.text("fieldType")
    if name not in _PARTS:
        refuse(field.place("fieldType"), f"{name:.60} has no counterpart here.")
    return node.text("columnName"), _PARTS[name]


def _math(body: Node, draft: Writer) -> None:
    only(body, "columnName", "mathOp", "timeQuantity", "timeUnit", "asMilliseconds")
    op = body.word("mathOp", ("Add", "Subtract", "ScalarMin", "ScalarMax"))
    unit = body.word("timeUnit", tuple(_UNITS))
    if op.startswith("Scalar") and unit != "MILLISECONDS":
        refuse(body.place("timeUnit"), f"DataVec takes {op} in MILLISECONDS only.")
    amount, pointer = body.integer("timeQuantity", bits=64), body.place("timeQuantity")
    bound = instant(amount, pointer) if op.startswith("Scalar") else ""
    if not bound and abs(amount) > _MOST // (86_400_000_000 if unit == "DAYS" else 3_600_000_000):
        refuse(pointer, "is more time than a timestamp can hold.")
    name = body.text("columnName")
    column = draft.read(name, body.place("columnName"), types=("Time",))
    if bound:
        condition = {"cmp": [column.ours, "<" if op == "ScalarMax" else ">", bound]}
        ours = draft.choose(condition, (Lit(bound), column.ours), name)
    else:
        draft.note("Java's times wrap around; here a row whose time is beyond what a timestamp holds is set aside.")
        ours = draft.moved_time(column.ours, amount if op == "Add" else -amount, _UNITS[unit], base=name)
    draft.replace(name, ours, kind="timestamp", meta=Meta("Time", zone=column.meta.zone))


TRANSFORMS: dict[str, Callable[[Node, Writer], None]] = {
    "DeriveColumnsFromTimeTransform": _derive,
    "StringToTimeTransform": _of_text,
    "TimeMathOpTransform": _math,
}
"""What writes the steps of each transform, by its class."""
