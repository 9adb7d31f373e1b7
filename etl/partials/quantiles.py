"""Exact quantiles in bounded memory, by one pass over the data or a few."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from etl.partials.base import Partial
from etl.partials.histogram import Histogram, keys_of, values_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["Quantiles"]

_KEY_BITS = 64
_MORE = 16
"""A later pass may keep so many times the limit, if it has that many rows to look at; more for more probabilities, so
that each pass settles 16 of the 64 bits."""


class Quantiles(Partial):
    """Quantiles by `inverted_cdf`: the least value that has at least the share `p` of all rows at or below it.

    The share is exact: a float stands for the decimal that was written (the shortest that gives it), so that 0.07 of
    100 rows are 7, where n·p in float64 is above 7. Of n ascending values the quantile is number ⌈n·p⌉, from 1.

    A pass counts rows by value, and by ranges of values (cells) where there are more than `limit` different ones. The
    next pass, of what `narrow` gives, looks only into the cells in which the quantiles lie. One pass is enough for
    `limit` different values; two as a rule for 10^9 rows of continuous data; never more than four with the default
    limit. Refined as by J. I. Munro, M. S. Paterson, Selection and sorting with limited storage (1980).

    ±inf is a value like others, −0.0 is taken as 0.0.
    """

    most_extra_passes: ClassVar[int] = 3
    """How often `narrow` may ask for one more pass, with the default limit."""

    def __init__(self, probabilities: Sequence[float | Fraction], limit: int = 2**16) -> None:
        """Start empty.

        Raises:
            ValueError: there is no probability or one not from 0 to 1, or the limit is below 2.
        """
        if not probabilities or not all(0 <= p <= 1 for p in probabilities):
            message = "give one or more probabilities, each from 0 to 1"
            raise ValueError(message)
        if limit < 2:  # noqa: PLR2004  with one cell, a pass would tell nothing
            message = "the limit is 2 or more"
            raise ValueError(message)
        exact = [p if isinstance(p, Fraction) else Fraction(repr(float(p))) for p in probabilities]
        self.shares = [[p.numerator, p.denominator] for p in exact]
        self.limit = limit
        self.n = 0
        self.histogram = Histogram(limit)
        # The first pass looks into one cell, which holds all keys.
        self.bits = _KEY_BITS
        self.cells = np.zeros(1, dtype=np.uint64)
        self.below = np.zeros(1, dtype=np.int64)
        self.inside = np.zeros(0, dtype=np.int64)
        self.rows: int | None = None

    @property
    def probabilities(self) -> list[Fraction]:
        """The shares of all rows, exactly."""
        return [Fraction(*share) for share in self.shares]

    def fresh(self) -> Quantiles:
        """An empty one that looks into the same cells."""
        other = Quantiles(self.probabilities, self.limit)
        other.histogram = self.histogram.fresh()
        other.bits, other.cells, other.below = self.bits, self.cells, self.below
        other.inside, other.rows = self.inside, self.rows
        return other

    def update(self, values: npt.NDArray[np.float64]) -> None:
        """Take in values, none of them NaN."""
        self.n += values.size
        keys = keys_of(values)
        if self.bits < _KEY_BITS:
            cells = keys >> np.uint64(self.bits)
            at = np.minimum(np.searchsorted(self.cells, cells), self.cells.size - 1)
            keys = keys[self.cells[at] == cells]
        self.histogram.add(keys)

    def merge(self, later: Quantiles) -> None:
        """Take in other values."""
        self.n += later.n
        self.histogram.merge(later.histogram)

    def compact(self) -> None:
        """Count what waits to be counted."""
        self.histogram.compact()

    def narrow(self) -> Quantiles | None:
        """An empty one for the next pass, over the same rows; None where `values` can tell already.

        Raises:
            ValueError: the rows are not those of the pass before: other in number, or where this pass looked.
        """
        self.compact()
        if not self.histogram.dropped:
            return None
        ends = self._ends()
        found = np.unique(self._found(ends))
        later = Quantiles(self.probabilities, self.limit)
        later.bits, later.cells = self.histogram.dropped, self.histogram.keys[found]
        later.inside, later.rows = self.histogram.counts[found], self.n
        later.below = ends[found] - later.inside
        most = self.limit * max(_MORE, len(self.shares))
        later.histogram = Histogram(max(self.limit, min(most, int(later.inside.sum()))))
        return later

    def values(self) -> list[float]:
        """The quantiles, in the order of the probabilities.

        Raises:
            ValueError: there is no value, or the rows are not those of the pass before.
            RuntimeError: another pass is needed: `narrow` gives what it has to learn.
        """
        self.compact()
        if not self.n:
            message = "has no value to learn from"
            raise ValueError(message)
        if self.histogram.dropped:
            message = "these quantiles need another pass"
            raise RuntimeError(message)
        found = self._found(self._ends())
        return [float(value) for value in values_of(self.histogram.keys[found])]

    def _ends(self) -> npt.NDArray[np.int64]:
        """How many of all rows have a key up to each of the histogram's."""
        keys, counts = self.histogram.keys, self.histogram.counts
        cell = np.searchsorted(self.cells, keys >> np.uint64(self.bits - self.histogram.dropped))
        held = np.zeros(self.cells.size, dtype=np.int64)
        np.add.at(held, cell, counts)
        if self.rows is not None and (self.rows != self.n or not np.array_equal(held, self.inside)):
            message = "is not what it was in the pass before; fit to data that nothing writes to"
            raise ValueError(message)
        ahead = self.below - (np.cumsum(held) - held)
        ends: npt.NDArray[np.int64] = np.cumsum(counts) + ahead[cell]
        return ends

    def _found(self, ends: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
        """Where the histogram has the key of each quantile."""
        ranks = [max(1, -(-self.n * part // whole)) for part, whole in self.shares]
        return np.searchsorted(ends, ranks, side="left")
