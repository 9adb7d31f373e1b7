"""How many rows have each value, in bounded memory: values close to each other are counted together when need be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from etl.partials.base import Partial

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Histogram", "keys_of", "values_of"]

_SIGN = np.uint64(2**63)
_SIGN_PLACE = np.uint64(63)
_ONE = np.uint64(1)

_WAITING = 2**16
"""Rows that may wait to be counted, so that sorting pays."""


def keys_of(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    """Integers in the order of the values; −0.0 has the key of 0.0. NaN must not be among them."""
    bits = (values + 0.0).view(np.uint64)
    # Negative numbers ascend when all their bits are flipped, the others come above them.
    return bits ^ ((bits.view(np.int64) >> 63).view(np.uint64) | _SIGN)


def values_of(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """The values of keys of full resolution."""
    return (keys ^ (((keys >> _SIGN_PLACE) - _ONE) | _SIGN)).view(np.float64)


class Histogram(Partial):
    """Rows by key, at the finest resolution that gives at most `limit` different keys.

    Keys lose their last bits, as few as possible. How many depends on the rows alone, since some of the rows never need
    fewer keys than all of them: so the histogram is the same however the rows are cut.
    """

    def __init__(self, limit: int) -> None:
        """Start empty, with room for `limit` different keys, two or more."""
        self.limit = limit
        self.dropped = 0
        self.keys: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self.counts: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.waiting: list[npt.NDArray[np.uint64]] = []
        self.rows_waiting = 0

    def fresh(self) -> Histogram:
        """An empty one with as much room."""
        return Histogram(self.limit)

    def add(self, keys: npt.NDArray[np.uint64]) -> None:
        """Take in full keys, one a row; the array is kept."""
        if not keys.size:
            return
        self.waiting.append(keys)
        self.rows_waiting += keys.size
        # As many may wait as are counted, so that merging costs each row the same, be the histogram large or small.
        if self.rows_waiting > max(_WAITING, self.keys.size):
            self.compact()

    def compact(self) -> None:
        """Count what waits: keys ascend, and those that lost bits are shifted to the right by `dropped`."""
        if self.waiting:
            keys = np.concatenate(self.waiting) >> np.uint64(self.dropped)
            self.waiting, self.rows_waiting = [], 0
            self._take_in(*np.unique(keys, return_counts=True))

    def merge(self, later: Histogram) -> None:
        """Take in other rows."""
        self.compact()
        later.compact()
        self._drop(later.dropped - self.dropped)
        keys, counts = _grouped(later.keys >> np.uint64(max(0, self.dropped - later.dropped)), later.counts)
        self._take_in(keys, counts)

    def _take_in(self, keys: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64]) -> None:
        if self.keys.size:
            keys, counts = np.concatenate((self.keys, keys)), np.concatenate((self.counts, counts))
            # A stable sort merges two runs that are sorted, instead of sorting them.
            order = np.argsort(keys, kind="stable")
            keys, counts = _grouped(keys[order], counts[order])
        self.keys, self.counts = keys, counts
        if keys.size > self.limit:
            # Neighbours become one when the bits in which they differ are dropped: all but `limit` − 1 pairs must.
            differing = keys[1:] ^ keys[:-1]
            at = differing.size - self.limit
            self._drop(int(np.partition(differing, at)[at]).bit_length())

    def _drop(self, bits: int) -> None:
        if bits > 0:
            self.dropped += bits
            self.keys, self.counts = _grouped(self.keys >> np.uint64(bits), self.counts)


def _grouped(
    keys: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Add the counts of equal keys, which stand beside each other."""
    if not keys.size:
        return keys, counts
    first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    return keys[first], np.add.reduceat(counts, first)
