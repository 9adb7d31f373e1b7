"""DataVec's schemas: columns with their types and what their metadata allows, in both forms of its JSON."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from etl.importing.datavec_nodes import Node
from etl.importing.refusals import refuse

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KINDS", "UNKNOWN", "UTC", "Meta", "identify", "metadata", "only", "single"]

KINDS = {
    "String": "string",
    "Categorical": "string",
    "Integer": "int32",
    "Long": "int64",
    "Double": "float64",
    "Float": "float32",
    "Time": "timestamp",
    "Boolean": "bool",
}
"""Our kind of column for each type of DataVec's that has one."""

UNKNOWN = "Unknown"
"""Type of a column that an action which cannot be imported has made or changed."""

UTC = frozenset({"UTC", "Etc/UTC", "GMT", "Etc/GMT", "Zulu"})
"""Names of the zone of DataVec's whose times are ours."""

_PREFIX = "org.datavec."

_OLD_NAMES = {
    "Binary": "BinaryMetaData",
    "Boloean": "BooleanMetaData",
    "Categorical": "CategoricalMetaData",
    "Double": "DoubleMetaData",
    "Float": "FloatMetaData",
    "Integer": "IntegerMetaData",
    "Long": "LongMetaData",
    "NDArray": "NDArrayMetaData",
    "String": "StringMetaData",
    "Time": "TimeMetaData",
    "ConvertToStringTransform": "ConvertToString",
    "InvalidNumCols": "InvalidNumColumns",
}
"""What 1.0.0-alpha and earlier call a class other than by its name; DataVec reads them still, as it wrote them."""


class Meta(NamedTuple):
    """A column's type and what is valid in it."""

    type: str
    """DataVec's name of the type, or `UNKNOWN`."""
    low: float | None = None
    """Smallest valid value."""
    high: float | None = None
    """Largest valid value."""
    allow_infinite: bool = False
    """Whether ±inf is valid whatever the bounds are. NaN always is: it is on no side of a bound."""
    states: tuple[str, ...] = ()
    """Valid texts of a categorical column."""
    regex: Node | None = None
    """What valid text matches."""
    shortest: int | None = None
    """Fewest UTF-16 units of valid text."""
    longest: int | None = None
    """Most UTF-16 units of valid text."""
    zone: str = "UTC"
    """Time zone in which fields of a time are derived."""


def identify(node: Node) -> tuple[str, Node]:
    """Short name of a value's class, and the mapping with its members; `@class` inside, or the name as only key."""
    members = node.mapping()
    if "@class" in members:
        name = node.text("@class")
        if not name.startswith(_PREFIX):
            refuse(node.place("@class"), f"{name!r:.120} is no class of DataVec.")
        return name.rpartition(".")[2], node
    if len(members) != 1:
        refuse(node.place("@class"), 'key "@class" is required.')
    (name,) = members
    return _OLD_NAMES.get(name, name), node.member(name)


def only(body: Node, *keys: str) -> None:
    """Refuse members of other names than these and those in which DataVec repeats what it derives."""
    body.allow({*keys, "@class", "inputSchema", "columnNumber", "columnIdx", "schema", "sequenceMode"})


def single(value: float) -> float:
    """The nearest float of 32 bits, beyond its range ±inf, as Java reads a float."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def metadata(node: Node) -> tuple[str, Meta]:
    """Name and metadata of a column of the initial schema."""
    kind, body = identify(node)
    if kind not in _READERS:
        refuse(node.pointer, f"{kind} has no counterpart: there are no columns of arrays or bytes here.")
    name = body.text("name")
    if not 1 <= len(name) <= 255:  # noqa: PLR2004  our longest name
        refuse(body.place("name"), "a column's name has 1 to 255 characters here.")
    return name, _READERS[kind](body)


def _optional(body: Node, key: str, read: Callable[[Node], Any]) -> Any:
    return read(body.member(key)) if body.has(key) else None


def _text(body: Node) -> Meta:
    only(body, "name", "regex", "minLength", "maxLength")
    regex = body.member("regex") if body.has("regex") else None
    if regex is not None:
        regex.as_text()
    shortest, longest = (_optional(body, key, Node.as_integer) for key in ("minLength", "maxLength"))
    return Meta("String", regex=regex, shortest=shortest, longest=longest)


def _categorical(body: Node) -> Meta:
    only(body, "name", "stateNames")
    return Meta("Categorical", states=tuple(body.texts("stateNames")))


def _integer(body: Node) -> Meta:
    only(body, "name", "minAllowedValue", "maxAllowedValue")
    low, high = (_optional(body, key, Node.as_integer) for key in ("minAllowedValue", "maxAllowedValue"))
    return Meta("Integer", low, high)


def _long(body: Node) -> Meta:
    only(body, "name", "minAllowedValue", "maxAllowedValue")
    low, high = _longs(body, "minAllowedValue", "maxAllowedValue")
    return Meta("Long", low, high)


def _longs(body: Node, *keys: str) -> list[int | None]:
    return [_optional(body, key, lambda node: node.as_integer(bits=64)) for key in keys]


def _float(body: Node, kind: str = "Double") -> Meta:
    only(body, "name", "minAllowedValue", "maxAllowedValue", "allowNaN", "allowInfinite")
    body.flag("allowNaN")
    low, high = (_optional(body, key, Node.as_number) for key in ("minAllowedValue", "maxAllowedValue"))
    if kind == "Float":
        low, high = (None if edge is None else single(edge) for edge in (low, high))
    return Meta(kind, low, high, allow_infinite=body.flag("allowInfinite"))


def _time(body: Node) -> Meta:
    only(body, "name", "timeZone", "minValidTime", "maxValidTime")
    low, high = _longs(body, "minValidTime", "maxValidTime")
    return Meta("Time", low, high, zone=body.text("timeZone"))


def _boolean(body: Node) -> Meta:
    only(body, "name")
    return Meta("Boolean")


_READERS: dict[str, Callable[[Node], Meta]] = {
    "BooleanMetaData": _boolean,
    "CategoricalMetaData": _categorical,
    "DoubleMetaData": _float,
    "FloatMetaData": lambda body: _float(body, "Float"),
    "IntegerMetaData": _integer,
    "LongMetaData": _long,
    "StringMetaData": _text,
    "TimeMetaData": _time,
}
