"""What scikit-learn has in its hands between two transformers: columns, each with the element type that it is in there.

scikit-learn computes in float32 where all columns that a transformer is given together are float32 (or narrower), and
in float64 else. So the type of an array decides bits, and is followed through the whole pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from etl.given import is_pandas
from etl.types import ColumnType

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FLOAT32", "FLOAT64", "MIXED", "Block", "InputColumn", "Part", "Value", "common_type", "schema_of"]

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
MIXED = np.dtype(object)
"""Of texts, and of numbers that stand in one array with texts, or with bools."""
_NUMBERS = {np.dtype(kind): kind for kind in ("bool", "int32", "int64", "float32", "float64")}


class InputColumn(NamedTuple):
    """A column that the pipeline is given."""

    kind: str
    """Our type of it; empty where none fits."""
    dtype: np.dtype[Any]
    """Element type that scikit-learn finds it in."""
    problem: str = ""
    """Why no transformer can be given it."""


class Part(NamedTuple):
    """One position of a vector, such as a one-hot vector."""

    vector: str
    """Our column with the vector."""
    position: int
    """From 0."""
    width: int
    """Positions of the vector."""
    condition: dict[str, Any] | None
    """Of which rows it is 1, and of others 0; None of a vector of other numbers, of which nothing reads one alone."""


class Value(NamedTuple):
    """One column of an array or frame."""

    name: str
    """Its name at the source, for steps and messages."""
    ours: str
    """Our column with its values; of a part, that with the vector."""
    kind: str
    """Kind of our column; other than those of `Part` and of texts, numbers are what scikit-learn has, in any kind."""
    dtype: np.dtype[Any]
    """Element type in scikit-learn."""
    is_rounded: bool = True
    """False where scikit-learn has it in float32, and our column in float64 is what is to be rounded to it."""
    is_finite: bool = False
    """Whether it is known not to be ±inf in any row that is not set aside."""
    is_present: bool = False
    """Whether it is known not to be missing in such a row."""
    is_unsigned: bool = False
    """Whether scikit-learn has 0.0 for -0.0, which a sparse array does not hold."""
    part: Part | None = None
    """Where it is a position of a vector."""
    unfilled: str = ""
    """Our column of texts in which missing values are missing still, where scikit-learn filled NaN and left None."""

    @property
    def is_text(self) -> bool:
        """Whether its values are texts."""
        return self.kind == "string"


class Block(NamedTuple):
    """What one transformer hands to the next."""

    values: tuple[Value, ...]
    is_frame: bool = False
    """Whether columns keep their types; those of an array have one."""
    is_sparse: bool = False

    @classmethod
    def array(cls, values: Sequence[Value], dtype: np.dtype[Any]) -> Block:
        """Columns of one element type."""
        return cls(tuple(value._replace(dtype=dtype) for value in values))


def common_type(values: Sequence[Value]) -> np.dtype[Any]:
    """Element type of the columns as one array, as numpy promotes."""
    dtypes = [value.dtype for value in values]
    return MIXED if MIXED in dtypes else np.result_type(*dtypes) if dtypes else FLOAT64


def schema_of(data: Any) -> dict[str, InputColumn]:
    """Columns by name: of a pandas frame, an Arrow table or schema, or a mapping of names to our types.

    Raises:
        TypeError: it is none of these, or a column has a name that is no text.
        ValueError: a mapping names a type that is none of ours.
    """
    if is_pandas(data):
        return {_named(name): _of_pandas(data.iloc[:, at]) for at, name in enumerate(data.columns)}
    if isinstance(data, pa.Table | pa.RecordBatch):
        data = data.schema
    if isinstance(data, pa.Schema):
        return {field.name: _of_arrow(field.type) for field in data}
    if isinstance(data, Mapping):
        return {_named(name): _of_kind(ColumnType.parse(str(kind)).kind) for name, kind in data.items()}
    message = (
        "takes a pandas frame, an Arrow table or schema, or a mapping of names to types such as float64, "
        f"found {type(data).__name__}"
    )
    raise TypeError(message)


def _named(name: Any) -> str:
    if isinstance(name, str):
        return name
    message = f"a column has the name {name!r:.60}, which is no text; rename it"
    raise TypeError(message)


def _of_kind(kind: str) -> InputColumn:
    if kind == "string":
        return InputColumn(kind, MIXED)
    dtype = next((dtype for dtype, name in _NUMBERS.items() if name == kind), None)
    return _unfit(f"is of type {kind}") if dtype is None else InputColumn(kind, dtype)


def _of_dtype(dtype: np.dtype[Any]) -> InputColumn:
    """Of a number, by our type that is read from it."""
    kinds = {"b": "bool", "f": dtype.name, "i": "int64" if dtype.itemsize > _INT32 else "int32"}
    kinds["u"] = "int64" if dtype.itemsize >= _INT32 else "int32"
    kind = kinds.get(dtype.kind, "")
    return InputColumn(kind, dtype) if kind in _NUMBERS.values() else _unfit(f"has element type {dtype}")


_INT32 = 4
"""Bytes."""


def _of_arrow(found: pa.DataType) -> InputColumn:
    if isinstance(found, pa.DictionaryType):
        found = found.value_type
    if pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found):
        return InputColumn("string", MIXED)
    is_number = pa.types.is_boolean(found) or pa.types.is_integer(found) or pa.types.is_floating(found)
    return _of_dtype(np.dtype(found.to_pandas_dtype())) if is_number else _unfit(f"is of type {found}")


def _of_pandas(column: Any) -> InputColumn:
    dtype = column.dtype
    if str(dtype) == "category":
        return InputColumn("string", MIXED) if _holds_texts(column) else _unfit("holds categories that are no texts")
    if str(dtype) == "str":
        return InputColumn("string", MIXED)
    if not isinstance(dtype, np.dtype):
        return _unfit(f"has pandas' own type {dtype}, whose missing values scikit-learn takes for different things")
    if dtype != MIXED:
        return _of_dtype(dtype)
    return InputColumn("string", MIXED) if _holds_texts(column) else _unfit("holds objects that are not all texts")


def _holds_texts(column: Any) -> bool:
    return all(isinstance(value, str) for value in column.dropna().unique())


def _unfit(problem: str) -> InputColumn:
    return InputColumn("", MIXED, problem)
