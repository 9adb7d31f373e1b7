"""Positions of values in a fixed list of distinct values: what vocabularies and joins look up."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl.partials.counts import count_texts
from etl.types import kernels
from etl.xxh64 import hash_texts, repeats

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from etl.types import ArrowArray

__all__ = ["IntegerCodes", "TextCodes", "count_texts"]

_KERNEL_TEXTS = 2_000
"""Up to so many texts, the hash table that Arrow's kernel builds anew for each batch costs next to nothing."""

_KERNEL_SHARE = 2
"""Up to so many texts for each one that is looked up, it costs less than our own hashes do."""

_MARKED = 1 << 16
"""Values among which null is marked at a time: a multiple of 8, few enough for the cache."""

_SPARSE = 8
"""A table addressed directly may have so many places for each value."""

_WIDEST = 2**62
"""Differences up to this cannot overflow int64."""


class TextCodes:
    """Texts, indexed once for all batches."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Distinct texts; the code of each is its position."""
        self._texts = pa.array(texts, pa.string())

    def codes(self, column: ArrowArray) -> npt.NDArray[np.int32]:
        """The code of each text of a column of strings, or of all elements of a column of lists; −1 for null and for a
        text that has none.
        """  # noqa: D205  one sentence
        if len(self._texts) <= max(_KERNEL_TEXTS, len(column) * _KERNEL_SHARE) or self._index.has_twins:
            return self._by_kernel(column)
        if not repeats(column):
            return self._index.codes(column)
        encoded = column.dictionary_encode(null_encoding="encode")
        indices: npt.NDArray[np.int32] = encoded.indices.to_numpy()
        return self._index.codes(encoded.dictionary)[indices]

    def _by_kernel(self, column: ArrowArray) -> npt.NDArray[np.int32]:
        return _unmasked(kernels.index_in(column, value_set=self._texts))

    @functools.cached_property
    def _index(self) -> _HashIndex:
        return _HashIndex(self._texts)


def _unmasked(found: ArrowArray) -> npt.NDArray[np.int32]:
    """The kernel's own array, which nobody else has, with −1 written where it is null.

    To fill a second array costs three times as much, and many times that where memory for it must be asked for.
    """
    if not found.null_count:
        codes: npt.NDArray[np.int32] = found.to_numpy()
        return codes
    validity, data = found.buffers()
    codes, bitmap = np.frombuffer(data, np.int32, len(found)), np.frombuffer(validity, np.uint8)
    for start in range(0, codes.size, _MARKED):
        part = codes[start : start + _MARKED]
        bits = np.unpackbits(bitmap[start >> 3 : (start + _MARKED) >> 3], count=part.size, bitorder="little")
        # A bit less 1 is 0 where there is a value, and else −1, all of whose bits are set.
        part |= bits.view(np.int8) - np.int8(1)
    return codes


class _HashIndex:
    """Codes in the order of the hashes of their texts, and where each first bits of a hash begin among them."""

    def __init__(self, texts: ArrowArray) -> None:
        """Index distinct texts."""
        hashes = hash_texts(texts)
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        bits = len(texts).bit_length() + 1
        firsts = np.arange(2**bits, dtype=np.uint64) << np.uint64(64 - bits)
        self._texts = texts
        self._shift = np.uint64(64 - bits)
        self._first = np.append(np.searchsorted(hashes, firsts), len(texts)).astype(np.int32)
        # One more of each, where a search behind the last ends.
        self._hashes = np.append(hashes, np.uint64(0))
        self._codes = np.append(order, -1).astype(np.int32)
        self.has_twins = bool((hashes[1:] == hashes[:-1]).any())
        """Whether two texts have one hash, as good as never: one of them would not be found."""

    def codes(self, column: ArrowArray) -> npt.NDArray[np.int32]:
        """The code of each text; −1 for null and for a text that has none."""
        codes = self._by_hash(hash_texts(column))
        if column.null_count:
            codes[column.is_null().to_numpy(zero_copy_only=False)] = -1
        hit = np.flatnonzero(codes >= 0)
        found = column if hit.size == codes.size else column.take(pa.array(hit))
        known = self._texts.take(pa.array(codes[hit]))
        # An unknown text may have the hash of a known one; as good as none ever does, so all are compared at once.
        if not found.equals(known):
            codes[hit[~kernels.equal(found, known).to_numpy(zero_copy_only=False)]] = -1
        return codes

    def _by_hash(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
        """The code of the text that has each hash; −1 where none has."""
        prefixes = (hashes >> self._shift).view(np.int64)
        places, ends = self._first.take(prefixes), self._first.take(prefixes + 1)
        # Behind the last of an empty range stands a hash of other first bits.
        is_hit = self._hashes.take(places) == hashes
        codes: npt.NDArray[np.int32] = np.where(is_hit, self._codes.take(places), np.int32(-1))
        rows = np.flatnonzero(~is_hit & (places + 1 < ends))
        places, ends = places[rows] + 1, ends[rows]
        while rows.size:
            is_hit = self._hashes[places] == hashes[rows]
            codes[rows[is_hit]] = self._codes[places[is_hit]]
            left = ~is_hit & (places + 1 < ends)
            rows, places, ends = rows[left], places[left] + 1, ends[left]
        return codes


class IntegerCodes:
    """Sorted integers; evenly spaced ones (days, hours, ids) are addressed directly, others searched for."""

    def __init__(self, values: npt.NDArray[np.int64]) -> None:
        """Distinct values, ascending; the code of each is its position."""
        self._values = values
        self._step = 1
        self._table: npt.NDArray[np.int32] | None = None
        if not values.size or int(values[-1]) - int(values[0]) > _WIDEST:
            return
        offsets = values - values[0]
        self._step = int(np.gcd.reduce(offsets)) or 1
        places = int(offsets[-1]) // self._step + 1
        if places <= _SPARSE * values.size:
            self._table = np.full(places, -1, dtype=np.int32)
            self._table[offsets // self._step] = np.arange(values.size, dtype=np.int32)

    def codes(self, values: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """The code of each value, −1 where it has none."""
        if not self._values.size:
            return np.full(values.shape, -1, dtype=np.int32)
        inside = (values >= self._values[0]) & (values <= self._values[-1])
        if self._table is None:
            codes = np.searchsorted(self._values, values).astype(np.int32)
            codes[~inside] = 0
            return np.where(inside & (self._values[codes] == values), codes, np.int32(-1))
        # Subtracted only where it cannot overflow.
        offsets = np.where(inside, values, self._values[0]) - self._values[0]
        places = offsets // self._step
        return np.where(inside & (places * self._step == offsets), self._table[places], np.int32(-1))
