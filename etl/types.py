"""Column types of specs and contracts, and the one Arrow type that each has inside."""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

import pyarrow as pa
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

__all__ = ["SCALARS", "ColumnType", "Schema", "TypeName"]


SCALARS: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
}
"""The canonical Arrow type of each scalar kind."""


class ColumnType(NamedTuple):
    """A column's type: a scalar kind, or a vector of `width` float32."""

    kind: str
    """One of `SCALARS`, or `vector`."""
    width: int = 1
    """Values per row; above 1 only for a vector."""

    @classmethod
    def parse(cls, text: str) -> ColumnType:
        """From `float64`, `string`, … or `float32[28]` for a vector.

        Raises:
            ValueError: no such type.
        """
        if text in SCALARS:
            return cls(text)
        vector = re.fullmatch(r"float32\[([1-9][0-9]{0,6})\]", text)
        if vector is None:
            message = f"no column type {text!r}; there is: {', '.join(SCALARS)}, float32[width]"
            raise ValueError(message)
        return cls("vector", int(vector[1]))

    def __str__(self) -> str:
        """As `parse` reads it."""
        return f"float32[{self.width}]" if self.kind == "vector" else self.kind

    @property
    def arrow(self) -> pa.DataType:
        """The canonical Arrow type that a column of this type is cast to on entry."""
        return pa.list_(pa.float32()) if self.kind == "vector" else SCALARS[self.kind]

    @property
    def is_numeric(self) -> bool:
        """Whether ops may take it as float64."""
        return self.kind in {"bool", "int32", "int64", "float32", "float64"}

    @property
    def is_float(self) -> bool:
        """Whether NaN can occur."""
        return self.kind in {"float32", "float64"}


class _ColumnTypeSchema:
    """Lets pydantic read and write a `ColumnType` as text."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any) -> ColumnType:
            if isinstance(value, ColumnType):
                return value
            if isinstance(value, str):
                return ColumnType.parse(value)
            message = "a column type is text, such as float64"
            raise ValueError(message)

        return core_schema.no_info_plain_validator_function(
            read, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "anyOf": [
                {"enum": list(SCALARS)},
                {"type": "string", "pattern": r"^float32\[[1-9][0-9]{0,6}\]$"},
            ]
        }


TypeName = Annotated[ColumnType, _ColumnTypeSchema]
"""A column type in a document."""

Schema = dict[str, ColumnType]
"""Columns by name, in the order in which they came to be."""
