"""Count and sum of a number by a text: what target encoding learns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from etl.partials.base import Partial
from etl.partials.exact import UNIT, parts
from etl.partials.moments import Extent

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.types import ArrowArray

__all__ = ["KeyedSums"]

_CHUNK = 2**15
"""Rows taken in at a time: no sum of shifted pieces reaches 2^53, and the table of words stays small."""

_WORD = 16
"""Bits of a word of a sum."""

_PIECES = 4
"""Words that make a mantissa."""

_CARRIES = 2
"""Words above the highest, for what the rows of a chunk add up to, and for the sign."""

_EXPONENT = 2047


class KeyedSums(Partial):
    """Rows and the exact sum of their values, by text.

    Sums are integers in units of 2^`place` · 2^−1074, where `place` is the lowest that a value other than 0 has.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.extent = Extent()
        self.place = _EXPONENT
        self.counts: dict[str, int] = {}
        self.sums: dict[str, int] = {}

    def fresh(self) -> KeyedSums:
        """An empty one."""
        return KeyedSums()

    def update(self, keys: ArrowArray, values: npt.NDArray[np.float64]) -> None:
        """Take in an Arrow column of strings without null, and as many values, none of them NaN."""
        self.extent.update(values)
        for start in range(0, values.size, _CHUNK):
            self._add(keys.slice(start, _CHUNK), values[start : start + _CHUNK])

    def merge(self, later: KeyedSums) -> None:
        """Take in other rows."""
        self.extent.merge(later.extent)
        self._lower(later.place)
        self._count(later.counts, later.sums, later.place)

    def compact(self) -> None:
        """Put the keys into the order of their UTF-8 bytes, which is that of code points."""
        self.counts = {key: self.counts[key] for key in sorted(self.counts)}
        self.sums = {key: self.sums[key] for key in self.counts}

    def totals(self) -> dict[str, tuple[int, float]]:
        """Rows and sum of each key, the sum correctly rounded; keys in the order of their UTF-8 bytes.

        Raises:
            ValueError: there is an infinite value, or a sum beyond float64.
        """
        return {key: (self.counts[key], self._rounded(self.sums[key])) for key in sorted(self.counts)}

    def total(self) -> tuple[int, float]:
        """Rows and sum of all keys together, the sum correctly rounded.

        Raises:
            ValueError: there is an infinite value, or the sum is beyond float64.
        """
        return self.extent.n, self._rounded(sum(self.sums.values()))

    def _rounded(self, total: int) -> float:
        if self.extent.n and not (math.isfinite(self.extent.least) and math.isfinite(self.extent.largest)):
            message = "holds ±inf; clip it first"
            raise ValueError(message)
        try:
            return (total << self.place) / (1 << UNIT)
        except OverflowError:
            message = "has a sum beyond float64; clip or scale it first"
            raise ValueError(message) from None

    def _lower(self, place: int) -> None:
        if place < self.place:
            shift = self.place - place
            self.sums = {key: total << shift for key, total in self.sums.items()}
            self.place = place

    def _count(self, counts: dict[str, int], sums: dict[str, int], place: int) -> None:
        shift = place - self.place
        for key, count in counts.items():
            self.counts[key] = self.counts.get(key, 0) + count
            self.sums[key] = self.sums.get(key, 0) + (sums[key] << shift)

    def _add(self, keys: ArrowArray, values: npt.NDArray[np.float64]) -> None:
        encoded = keys.dictionary_encode()
        texts, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)
        mantissas, exponents = parts(values)
        places = np.maximum(exponents & _EXPONENT, 1) - 1
        lowest = int(places.min(where=mantissas != 0, initial=_EXPONENT))
        self._lower(lowest)
        words, offsets = np.divmod(np.maximum(places - lowest, 0), _WORD)
        table = np.zeros((int(words.max()) + _PIECES + _CARRIES, len(texts)), dtype=np.int64)
        at, signs = words * len(texts) + codes, np.where(exponents > _EXPONENT, -1.0, 1.0)
        shifts = offsets.astype(np.uint64)
        for number in range(_PIECES):
            pieces = (mantissas >> np.uint64(_WORD * number)) & np.uint64(2**_WORD - 1)
            weights = (pieces << shifts).astype(np.float64) * signs
            lines = table[number:].reshape(-1)
            lines += np.bincount(at, weights, lines.size).astype(np.int64)
        counts = np.bincount(codes).tolist()
        sums = zip(texts, _integers(table), strict=True)
        self._count(dict(zip(texts, counts, strict=True)), dict(sums), lowest)


def _integers(table: npt.NDArray[np.int64]) -> list[int]:
    """The integer of each column, whose lines are signed words, the lowest first. The table is changed."""
    for word in range(1, table.shape[0]):
        table[word] += table[word - 1] >> _WORD
    # What is left of each word are its last bits: those of the two's complement of the integer.
    size = table.shape[0] * _WORD // 8
    words = table.T.astype("<u2").tobytes()
    return [int.from_bytes(words[at : at + size], "little", signed=True) for at in range(0, len(words), size)]
