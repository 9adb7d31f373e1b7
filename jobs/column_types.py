"""Types of published columns, by the names that manifests have for them: Arrow's own. To Arrow and to Spark's DDL."""

from __future__ import annotations

import re
from typing import NamedTuple

import pyarrow as pa

from etl.errors import DocumentError

__all__ = ["arrow_of", "spark_of"]

_SPARK = {
    pa.bool_(): "boolean",
    pa.int8(): "tinyint",
    pa.int16(): "smallint",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.uint64(): "decimal(20,0)",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "string",
    pa.date32(): "date",
    pa.timestamp("us", "UTC"): "timestamp",
}
_SCALARS = {str(arrow): arrow for arrow in _SPARK}
_SCALAR = re.compile("|".join(sorted(map(re.escape, _SCALARS), key=len, reverse=True)))
_LIST = re.compile(r"(fixed_size_)?list<item: ")
_FIELD = re.compile(r"(\w+): ")
_SIZE = re.compile(r"\[(\d+)\]")


def arrow_of(name: str) -> pa.DataType:
    """The type of a name that Arrow has for it.

    Raises:
        DocumentError: no release up to this one publishes such a type.
    """
    found = _parsed(name, 0)
    if found is None or found.end != len(name):
        message = f"column type {name!r} of the manifest is of a newer batchscore; use that release."
        raise DocumentError(message)
    return found.type


def spark_of(type_: pa.DataType) -> str:
    """The same type in Spark's DDL."""
    if pa.types.is_list(type_) or pa.types.is_fixed_size_list(type_):
        return f"array<{spark_of(type_.value_type)}>"
    if pa.types.is_struct(type_):
        return f"struct<{', '.join(f'{part.name}: {spark_of(part.type)}' for part in type_)}>"
    return _SPARK[type_]


class _Parsed(NamedTuple):
    """A type that was read, and where its name ends."""

    type: pa.DataType
    end: int


def _parsed(name: str, start: int) -> _Parsed | None:
    if scalar := _SCALAR.match(name, start):
        return _Parsed(_SCALARS[scalar[0]], scalar.end())
    if opening := _LIST.match(name, start):
        return _list(name, opening)
    return _struct(name, start + len("struct<")) if name.startswith("struct<", start) else None


def _list(name: str, opening: re.Match[str]) -> _Parsed | None:
    item = _parsed(name, opening.end())
    if item is None or name[item.end : item.end + 1] != ">":
        return None
    if not opening[1]:
        return _Parsed(pa.list_(item.type), item.end + 1)
    size = _SIZE.match(name, item.end + 1)
    return _Parsed(pa.list_(item.type, int(size[1])), size.end()) if size else None


def _struct(name: str, start: int) -> _Parsed | None:
    fields: list[pa.Field] = []
    while key := _FIELD.match(name, start):
        value = _parsed(name, key.end())
        if value is None:
            return None
        fields.append(pa.field(key[1], value.type))
        if name[value.end : value.end + 1] == ">":
            return _Parsed(pa.struct(fields), value.end + 1)
        start = value.end + len(", ")
    return None
