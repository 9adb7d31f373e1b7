"""A number for the values of a batch, by which two readings of the same rows are compared."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl.types import decoded, is_bytes, kernels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etl.types import ArrowArray

__all__ = ["checksum"]


def checksum(batch: pa.RecordBatch, names: Iterable[str], start: int = 0) -> int:
    """CRC-32 of the named columns, those that are there, behind the batches of which `start` is the number.

    What lies behind a null does not count, nor whether a column is a dictionary, or its texts or lists are large ones.
    """
    for name in names:
        for at in batch.schema.get_all_field_indices(name):
            start = _of_column(batch.column(at), start)
    return zlib.crc32(str(batch.num_rows).encode(), start)


def _of_column(column: ArrowArray, start: int) -> int:
    column = decoded(column)
    if column.null_count:
        start = zlib.crc32(column.is_null().to_numpy(zero_copy_only=False), start)
    if pa.types.is_struct(column.type):
        for part in column.flatten():
            start = _of_column(part, start)
        return start
    if isinstance(column.type, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        return _of_column(column.flatten(), _of_lengths(kernels.list_value_length(column), start))
    if pa.types.is_string_view(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.string())
    if is_bytes(column.type):
        column = column.cast(pa.large_binary())
    if any(is_text(column.type) for is_text in _TEXTS):
        start = _of_lengths(kernels.binary_length(column), start)
        texts = column.cast(pa.large_binary()).drop_null()
        ends = np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, texts.offset * 8) if len(texts) else [0, 0]
        return zlib.crc32(memoryview(texts.buffers()[2] or b"")[ends[0] : ends[-1]], start)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if not pa.types.is_primitive(column.type):
        return start
    return zlib.crc32(column.view(_INTEGERS[column.type.bit_width]).fill_null(0).to_numpy(), start)


_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_large_binary)
_INTEGERS = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
"""By bits."""


def _of_lengths(lengths: ArrowArray, start: int) -> int:
    return zlib.crc32(lengths.cast(pa.int64()).fill_null(0).to_numpy(), start)
