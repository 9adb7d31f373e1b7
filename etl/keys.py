"""The key of a row in some columns, and its digest, by which repeats are counted where no process sees all rows.

A digest is 128 bits: XXH64 under two seeds over one word of 64 bits a column. Equal keys have equal digests. In one
column of numbers, days or instants, different keys always have different ones. With texts, or several columns, two
different keys share one by a chance of some 2^-120: among 10^10 rows that happens with a probability below 10^-16.
Who makes values so that they collide can have a row counted as a repeat, but cannot hide one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl.xxh64 import hash_texts_under, hash_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from etl.frame import Frame
    from etl.types import ArrowArray

__all__ = ["key_column", "key_digests"]

_SEEDS = (0x6B65_792D_6869_6768, 0x6B65_792D_6C6F_7721)
_ABSENT = np.array([[0x9AE1_6A3B_2F90_404F], [0xC949_D7C7_509E_6557]], dtype=np.uint64)
"""By seed, the word of a missing value: a number that is one of them is not the other."""


def key_column(frame: Frame, name: str) -> ArrowArray:
    """A column in which equal values have equal bits: one NaN, no −0.0, and null for all that is missing."""
    column = frame.arrow(name)
    if not pa.types.is_floating(column.type):
        return column
    values = column.to_numpy(zero_copy_only=False) + 0.0
    values[np.isnan(values)] = np.nan
    return pa.array(values, mask=frame.missing(name))


def key_digests(frame: Frame, names: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Two words for each row of the frame, of its values in these columns; shape (2, rows)."""
    return hash_words([_words(key_column(frame, name)) for name in names], _SEEDS)


def _words(column: ArrowArray) -> npt.NDArray[np.uint64]:
    """A new array of a word for each value, or one under each seed. Numbers that differ have words that differ."""
    words = hash_texts_under(column, _SEEDS) if pa.types.is_string(column.type) else _numbers(column)
    if column.null_count:
        words = np.where(column.is_null().to_numpy(zero_copy_only=False), _ABSENT, words)
    return words


def _numbers(column: ArrowArray) -> npt.NDArray[np.uint64]:
    """The bits of numbers, days or instants; what a null is given means nothing."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    values = np.frombuffer(column.buffers()[1], dtype=f"V{column.type.byte_width}")
    bits = values[column.offset : column.offset + len(column)].view(f"u{column.type.byte_width}")
    return bits.astype(np.uint64)
