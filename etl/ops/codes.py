"""Positions of values in a fixed list of distinct values: what vocabularies and joins look up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl.types import kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from etl.types import ArrowArray

__all__ = ["IntegerCodes", "TextCodes", "count_texts"]

_KERNEL_TEXTS = 2_000
"""Up to so many texts, the hash table that Arrow's kernel builds anew for each batch costs next to nothing."""

_PYTHON_PRICE = 16
"""What a look-up in a dict costs, in texts that the kernel puts into its table."""

_SPARSE = 8
"""A table addressed directly may have so many places for each value."""

_WIDEST = 2**62
"""Differences up to this cannot overflow int64."""


class TextCodes:
    """Texts, indexed once for all batches."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Distinct texts; the code of each is its position."""
        self._texts = pa.array(texts, pa.string())
        self._code_of = {text: code for code, text in enumerate(texts)} if len(texts) > _KERNEL_TEXTS else None

    def codes(self, column: ArrowArray) -> npt.NDArray[np.int32]:
        """The code of each text of a string column; −1 for null and for a text that has none."""
        if self._code_of is None:
            return self._by_kernel(column)
        encoded = column.dictionary_encode(null_encoding="encode")
        distinct = encoded.dictionary
        if len(distinct) * _PYTHON_PRICE > len(self._texts):
            code_of = self._by_kernel(distinct)
        else:
            code_of = np.fromiter(
                (self._code_of.get(text, -1) for text in distinct.to_pylist()), np.int32, len(distinct)
            )
        indices: npt.NDArray[np.int32] = encoded.indices.to_numpy()
        return code_of[indices]

    def _by_kernel(self, column: ArrowArray) -> npt.NDArray[np.int32]:
        found = kernels.index_in(column, value_set=self._texts)
        codes: npt.NDArray[np.int32] = (found.fill_null(-1) if found.null_count else found).to_numpy()
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


def count_texts(column: ArrowArray) -> dict[str, int]:
    """Rows of each text; null is none."""
    counts = column.drop_null().value_counts()
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
