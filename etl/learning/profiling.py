"""Training statistics of input fields, learned in the same passes as the steps' state."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl.ops.base import Accumulator
from etl.ops.codes import count_texts
from etl.partials.quantiles import Quantiles
from etl.training import FieldProfile

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.contract import InputField
    from etl.frame import Frame
    from etl.types import ArrowArray

__all__ = ["ProfileAccumulator"]


def _rounded(column: ArrowArray) -> npt.NDArray[np.float64]:
    """Numbers as the nearest float64, NaN for missing.

    Not by the frame, which rejects an integer that float64 cannot hold: what only tells of the rows may reject none.
    """
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    values: npt.NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values


_PROBABILITIES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
_MOST_TEXTS = 20
"""Texts that a profile names."""

_LONGEST_TEXT = 4096
"""Bytes of a text that a profile names; a longer one is no category."""

_MOST_DISTINCT = 100_000
"""Texts that are counted; a field of more is one of ids, whose most frequent ones say nothing."""


class ProfileAccumulator(Accumulator[FieldProfile]):
    """Rows, missing ones, and quantiles of a number or the most frequent texts."""

    def __init__(self, column: str, quantiles: Quantiles | None, counts: Counter[str] | None) -> None:
        """Start for one column with what is to be learned of its values, each empty, or None."""
        self.column = column
        self.n = 0
        self.missing = 0
        self.quantiles = quantiles
        self.counts = counts

    @classmethod
    def of(cls, field: InputField) -> ProfileAccumulator:
        """For an input field; of personal data, and of ids, only the missing rows are counted."""
        is_open = not field.pii and field.role != "id"
        quantiles = Quantiles(_PROBABILITIES) if is_open and field.type.is_numeric else None
        return cls(field.name, quantiles, Counter() if is_open and field.type.kind == "string" else None)

    @property
    def most_extra_passes(self) -> int:
        """Those of the quantiles."""
        return 0 if self.quantiles is None else self.quantiles.most_extra_passes

    def fresh(self) -> ProfileAccumulator:
        """An empty one that learns the same."""
        quantiles = None if self.quantiles is None else self.quantiles.fresh()
        return ProfileAccumulator(self.column, quantiles, None if self.counts is None else Counter())

    def update(self, frame: Frame) -> None:
        """Take in one batch."""
        self.n += frame.rows
        self.missing += int(frame.missing(self.column).sum())
        if self.quantiles is not None:
            values = _rounded(frame.arrow(self.column))
            self.quantiles.update(values[~np.isnan(values)])
        if self.counts is not None:
            self.counts.update(count_texts(frame.arrow(self.column)))
            self._give_up_where_many()

    def merge(self, later: ProfileAccumulator) -> None:
        """Take in later rows."""
        self.n += later.n
        self.missing += later.missing
        if self.quantiles is not None and later.quantiles is not None:
            self.quantiles.merge(later.quantiles)
        if self.counts is None or later.counts is None:
            self.counts = None
        else:
            self.counts.update(later.counts)
            self._give_up_where_many()

    def _give_up_where_many(self) -> None:
        """More texts in a part are more in the whole: giving up does not depend on how the rows were cut."""
        if self.counts is not None and len(self.counts) > _MOST_DISTINCT:
            self.counts = None

    def narrow(self) -> ProfileAccumulator | None:
        """The same counts once more, with the quantiles that are not known yet."""
        more = None if self.quantiles is None else self.quantiles.narrow()
        if more is None:
            return None
        made = self.fresh()
        made.quantiles = more
        return made

    def finish(self) -> FieldProfile:
        """What is known; a field without values has no quantiles."""
        quantiles: dict[str, float] = {}
        if self.quantiles is not None and self.quantiles.n:
            pairs = zip(_PROBABILITIES, self.quantiles.values(), strict=True)
            quantiles = {f"{probability:g}": value for probability, value in pairs if math.isfinite(value)}
        named = [entry for entry in (self.counts or {}).items() if len(entry[0].encode()) <= _LONGEST_TEXT]
        ranked = sorted(named, key=lambda entry: (-entry[1], entry[0].encode()))
        return FieldProfile(n=self.n, missing=self.missing, quantiles=quantiles, top=tuple(ranked[:_MOST_TEXTS]))
