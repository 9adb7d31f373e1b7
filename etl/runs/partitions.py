"""Folders `column=value` as Hive names them: which rows go where, and what a folder says about the rows in it.

Files below such folders do not hold the columns that the folders name, as with every engine that reads and writes them:
a reader that finds a column in both places takes either, or refuses.
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from etl.types import ArrowArray

__all__ = ["NULL", "Partitioning", "is_partition_type", "partition_columns", "partition_values"]

NULL = "__HIVE_DEFAULT_PARTITION__"
"""What a folder says of rows that have no value."""
_LONGEST = 200
"""Bytes of a folder's name; disks and HDFS take 255."""
_SPECIAL = re.compile(r"""[\x00-\x1f"#%'*/:=?\\\x7f{}\[\]^]""")
"""What Spark and Hive write as %XX. They read it back byte by byte, so nothing beyond ASCII may be written so."""


def is_partition_type(type_: pa.DataType) -> bool:
    """Whether every value of a type has one text that every reader takes for it: not so of floats and instants."""
    return bool(
        pa.types.is_string(type_)
        or pa.types.is_integer(type_)
        or pa.types.is_boolean(type_)
        or pa.types.is_date32(type_)
    )


class Partitioning:
    """How rows of a schema are divided into folders."""

    def __init__(self, schema: pa.Schema, columns: Sequence[str]) -> None:
        """Without columns all rows are in one place, whose name is empty."""
        self.columns = tuple(columns)
        self.file_schema = pa.schema([field for field in schema if field.name not in columns])
        self._numbers = [number for number, field in enumerate(schema) if field.name not in columns]

    def divide(self, batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The rows of each folder, in their order and without the columns that it names."""
        if not self.columns or not batch.num_rows:
            yield "", batch
            return
        keys = [batch.column(name) for name in self.columns]
        codes = _codes(keys)
        _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
        rows = pa.RecordBatch.from_arrays(
            [batch.column(number) for number in self._numbers], schema=self.file_schema.with_metadata(None)
        )
        if first.size > 1:
            rows = rows.take(pa.array(np.argsort(inverse, kind="stable")))
        ends = [0, *np.cumsum(np.bincount(inverse)).tolist()]
        for number, (start, end) in enumerate(itertools.pairwise(ends)):
            yield self._folder(keys, int(first[number])), rows.slice(start, end - start)

    def _folder(self, keys: list[ArrowArray], row: int) -> str:
        return "/".join(
            f"{_escaped(name)}={_text(key[row].as_py())}" for name, key in zip(self.columns, keys, strict=True)
        )

    def unplaceable(self, batch: pa.RecordBatch) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
        """By column, the rows whose text no folder can say: an empty one, the one for null, one that is too long."""
        for name in self.columns:
            column = batch.column(name)
            if not pa.types.is_string(column.type):
                continue
            encoded = column.dictionary_encode()
            bad = [value is not None and not _has_folder(name, value) for value in encoded.dictionary.to_pylist()]
            if any(bad):
                indices = encoded.indices.fill_null(len(bad)).to_numpy()
                yield name, np.array([*bad, False])[indices]


def _codes(keys: list[ArrowArray]) -> npt.NDArray[np.int64]:
    """A number for each row, equal where all keys are."""
    codes = np.zeros(len(keys[0]), dtype=np.int64)
    for key in keys:
        encoded = pc.dictionary_encode(key, null_encoding="encode")
        codes = codes * len(encoded.dictionary) + encoded.indices.to_numpy()
        # Of many columns the product would not fit; there are no more values than rows.
        codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    return codes


def _text(value: Any) -> str:
    if value is None:
        return NULL
    if isinstance(value, bool):
        return str(value).lower()
    return _escaped(value.isoformat() if isinstance(value, dt.date) else str(value))


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda found: f"%{ord(found[0]):02X}", text)


def _has_folder(name: str, value: str) -> bool:
    return value not in {"", NULL} and len(f"{_escaped(name)}={_escaped(value)}".encode()) <= _LONGEST


def partition_columns(folder: str) -> frozenset[str]:
    """The columns that a folder names."""
    return frozenset(unquote(part.partition("=")[0]) for part in folder.split("/") if folder)


def partition_values(folder: str, schema: pa.Schema) -> dict[str, pa.Scalar]:
    """The value of each column that a folder names, in the type that the schema gives it; of those in the schema."""
    found: dict[str, pa.Scalar] = {}
    for part in folder.split("/") if folder else ():
        name, text = map(unquote, part.split("=", 1))
        if name in schema.names:
            type_ = schema.field(name).type
            found[name] = pa.scalar(None, type_) if text == NULL else pa.scalar(text, pa.string()).cast(type_)
    return found
