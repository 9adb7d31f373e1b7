"""Count, least and largest, mean and standard deviation."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from etl.partials.base import Partial
from etl.partials.exact import UNIT, parts, root_of_quotient

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Extent", "Moments"]

_CHUNK = 2**14
"""Rows binned at a time: temporaries stay in the cache, and no sum of pieces of mantissas reaches 2^53."""

_ROWS = 2**24
"""Rows whose bins are added as int64."""

_BINS = 4096
"""Sign and exponent."""

_SUM_PLACES = (0, 36)
_SQUARE_PLACES = (0, 19, 36, 55, 72)
"""What the bins of each kind of piece are worth, as powers of two."""


_WINDOW = 64
"""Places whose sums are added before the others'."""


class Extent(Partial):
    """How many values there are, and the least and the largest of them. −0.0 is taken as 0.0."""

    def __init__(self) -> None:
        """Start empty: least is inf, largest −inf."""
        self.n = 0
        self.least = math.inf
        self.largest = -math.inf

    def fresh(self) -> Extent:
        """An empty one."""
        return Extent()

    def update(self, values: npt.NDArray[np.float64]) -> None:
        """Take in values, none of them NaN."""
        if values.size:
            self.n += values.size
            self.least = min(self.least, float(values.min()) + 0.0)
            self.largest = max(self.largest, float(values.max()) + 0.0)

    def merge(self, later: Extent) -> None:
        """Take in other values."""
        self.n += later.n
        self.least, self.largest = min(self.least, later.least), max(self.largest, later.largest)


class Moments(Partial):
    """The exact sum of values and of their squares, as integers in units of 2^−1074 and 2^−2148.

    Mean, standard deviation and total are those of the real numbers, rounded once: no order of rows, magnitude or
    number of them changes a bit. In the manner of the small superaccumulator of R. M. Neal, Fast exact summation using
    small and large superaccumulators (2015), with squares added.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.extent = Extent()
        self.sum = 0
        self.squares = 0

    def fresh(self) -> Moments:
        """An empty one."""
        return Moments()

    @property
    def n(self) -> int:
        """How many values there are."""
        return self.extent.n

    @property
    def least(self) -> float:
        """The least value; inf where there is none."""
        return self.extent.least

    @property
    def largest(self) -> float:
        """The largest value; −inf where there is none."""
        return self.extent.largest

    def update(self, values: npt.NDArray[np.float64]) -> None:
        """Take in values, none of them NaN; ±inf is kept in mind, and refused when a result is asked for."""
        self.extent.update(values)
        for start in range(0, values.size, _ROWS):
            self._add(_bins(values[start : start + _ROWS]))

    def merge(self, later: Moments) -> None:
        """Take in other values."""
        self.extent.merge(later.extent)
        self.sum += later.sum
        self.squares += later.squares

    def total(self) -> float:
        """The sum, correctly rounded; of no values 0.0.

        Raises:
            ValueError: there is an infinite value, or the sum is beyond float64.
        """
        self._need_finite()
        try:
            return self.sum / (1 << UNIT)
        except OverflowError:
            message = "has a sum beyond float64; clip or scale it first"
            raise ValueError(message) from None

    def mean(self) -> float:
        """The mean, correctly rounded: of equal values their value.

        Raises:
            ValueError: there is no value, or an infinite one.
        """
        self._need_finite()
        self._need_some()
        return self.sum / (self.n << UNIT)

    def std(self) -> float:
        """The population standard deviation (ddof 0), correctly rounded: of equal values 0.0.

        It is never beyond float64, nor is what lies between.

        Raises:
            ValueError: there is no value, or an infinite one.
        """
        self._need_finite()
        self._need_some()
        return root_of_quotient(self.n * self.squares - self.sum * self.sum, self.n, UNIT)

    def _need_some(self) -> None:
        if not self.n:
            message = "has no value to learn from"
            raise ValueError(message)

    def _need_finite(self) -> None:
        if self.n and not (math.isfinite(self.least) and math.isfinite(self.largest)):
            message = "holds ±inf; clip it first"
            raise ValueError(message)

    def _add(self, bins: npt.NDArray[np.int64]) -> None:
        # By kind, sign and exponent, without that of ±inf.
        signed = bins.reshape(-1, 2, _BINS // 2)[..., :-1]
        sums = signed[: len(_SUM_PLACES), 0] - signed[: len(_SUM_PLACES), 1]
        squares = signed[len(_SUM_PLACES) :].sum(axis=1)
        used = np.flatnonzero(squares.any(axis=0))
        places = (np.maximum(used, 1) - 1).tolist()
        self.sum += _together(sums[:, used], _SUM_PLACES, places)
        self.squares += _together(squares[:, used], _SQUARE_PLACES, [2 * place for place in places])


def _together(pieces: npt.NDArray[np.int64], kinds: tuple[int, ...], places: list[int]) -> int:
    """The sum of pieces, a line for each kind, a column for each place; both are powers of two."""
    columns = np.array([1 << kind for kind in kinds], dtype=object) @ pieces.astype(object)
    windows: Counter[int] = Counter()
    for place, column in zip(places, columns.tolist(), strict=True):
        # Near places first, because adding to an integer of thousands of bits takes as long as it is.
        windows[place // _WINDOW] += column << place % _WINDOW
    return sum(total << window * _WINDOW for window, total in windows.items())


def _bins(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Sums of the pieces of mantissas and of their squares, a line for each kind, by sign and exponent."""
    bins = np.zeros((len(_SUM_PLACES) + len(_SQUARE_PLACES), _BINS), dtype=np.int64)
    for start in range(0, values.size, _CHUNK):
        mantissas, exponents = parts(values[start : start + _CHUNK])
        low = mantissas & np.uint64(2**36 - 1)
        high = (mantissas >> np.uint64(36)).astype(np.float64)
        # 53 bits as 17 + 18 + 18, so that a product has at most 36 bits, and 2^14 of them are exact in float64.
        middle = (low >> np.uint64(18)).astype(np.float64)
        least = (low & np.uint64(2**18 - 1)).astype(np.float64)
        cross = 2 * high * least + middle * middle
        pieces = (low.astype(np.float64), high, least * least, middle * least, cross, high * middle, high * high)
        for kind, piece in enumerate(pieces):
            bins[kind] += np.bincount(exponents, piece, _BINS).astype(np.int64)
    return bins
