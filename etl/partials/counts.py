"""How many rows have each text, or each number."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from etl.partials.base import Partial
from etl.partials.histogram import Histogram, keys_of, values_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.types import ArrowArray

__all__ = ["Counts", "NumberCounts", "count_texts"]


def count_texts(column: ArrowArray) -> dict[str, int]:
    """Rows of each text of a column of strings; null is none."""
    counts = column.drop_null().value_counts()
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))


class Counts(Partial):
    """Rows of each text."""

    def __init__(self) -> None:
        """Start empty."""
        self.counts: Counter[str] = Counter()

    def fresh(self) -> Counts:
        """An empty one."""
        return Counts()

    @property
    def n(self) -> int:
        """How many rows have a text."""
        return self.counts.total()

    def update_texts(self, column: ArrowArray) -> None:
        """Take in a column of strings; null is none."""
        self.counts.update(count_texts(column))

    def merge(self, later: Counts) -> None:
        """Take in other rows."""
        self.counts.update(later.counts)

    def compact(self) -> None:
        """Put the counts into their canonical order."""
        self.counts = Counter(dict(self.ordered()))

    def ordered(self) -> list[tuple[str, int]]:
        """Texts with their counts: the most frequent first, equally frequent ones by their UTF-8 bytes."""
        # UTF-8 keeps the order of code points, by which Python compares texts.
        return sorted(self.counts.items(), key=lambda entry: (-entry[1], entry[0]))


class NumberCounts(Partial):
    """Rows of each number, where there are not too many different ones. −0.0 is taken as 0.0."""

    def __init__(self, limit: int = 1_000_000) -> None:
        """Start empty, with room for `limit` different numbers."""
        self.histogram = Histogram(limit)

    def fresh(self) -> NumberCounts:
        """An empty one with as much room."""
        return NumberCounts(self.histogram.limit)

    def update(self, values: npt.NDArray[np.float64]) -> None:
        """Take in values, none of them NaN.

        Raises:
            ValueError: there are too many different numbers; if not now, then later.
        """
        self.histogram.add(keys_of(values))
        self._need_room()

    def merge(self, later: NumberCounts) -> None:
        """Take in other values.

        Raises:
            ValueError: there are too many different numbers.
        """
        self.histogram.merge(later.histogram)
        self._need_room()

    def compact(self) -> None:
        """Count what waits to be counted.

        Raises:
            ValueError: there are too many different numbers.
        """
        self.histogram.compact()
        self._need_room()

    def ordered(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Numbers and their counts: the most frequent first, equally frequent ones by size, the least first.

        Raises:
            ValueError: there are too many different numbers.
        """
        self.compact()
        order = np.argsort(-self.histogram.counts, kind="stable")
        return values_of(self.histogram.keys)[order], self.histogram.counts[order]

    def _need_room(self) -> None:
        if self.histogram.dropped:
            message = (
                f"has more than {self.histogram.limit:,} different numbers, too many to count each; "
                "use the median instead of the mode"
            )
            raise ValueError(message)
