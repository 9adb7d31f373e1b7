"""Rows of several lengths as one tensor: kept behind one another, and padded when a model is fed.

A model runs over rows that are padded to one length. Which length that is, is known only where rows are put together:
so a ragged tensor stays as long as its rows are, and whoever makes a batch says how long it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Mask", "Ragged", "Tensor", "padded_feeds"]


class Mask(NamedTuple):
    """The tensor that tells elements from padding."""

    model_input: str
    """The input of the model that it feeds."""
    dtype: str
    """Its element type, by numpy's name: 1 (or true) for an element, 0 for padding."""


@dataclass(frozen=True, eq=False, slots=True)
class Ragged:
    """The elements of all rows one behind another."""

    values: npt.NDArray[Any]
    """All elements, in the tensor's element type."""
    offsets: npt.NDArray[np.int64]
    """Shape (rows + 1,), ascending from 0: row i has the elements from `offsets[i]` to before `offsets[i + 1]`."""
    buckets: tuple[int, ...] = ()
    """The lengths to which rows are padded, ascending; no row is longer than the last. Empty: what the batch needs."""
    pad: float = 0
    """What a row is filled up with."""
    mask: Mask | None = None
    """The tensor that is fed beside it, if any."""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.offsets.size - 1

    def __len__(self) -> int:
        """How many rows there are."""
        return self.rows

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Elements of each row; shape (rows,)."""
        return np.diff(self.offsets)

    def bucket_lengths(self) -> npt.NDArray[np.int64]:
        """The length to which each row is padded at least: its bucket, or its own where there are none, and 1 of an
        empty one; shape (rows,).
        """  # noqa: D205  one sentence
        if not self.buckets:
            return np.maximum(self.lengths, 1)
        buckets = np.array(self.buckets, dtype=np.int64)
        return buckets[np.searchsorted(buckets, self.lengths)]

    def take(self, rows: npt.NDArray[Any]) -> Ragged:
        """The rows at these positions, in their order."""
        lengths = self.lengths[rows]
        offsets = _offsets(lengths)
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return Ragged(self.values[places], offsets, self.buckets, self.pad, self.mask)

    def __getitem__(self, rows: slice | npt.NDArray[Any]) -> Ragged:
        """Some of the rows, as numpy would take them: a slice without a step is a view of the elements."""
        if not isinstance(rows, slice):
            return self.take(np.flatnonzero(rows) if rows.dtype == bool else rows)
        start, stop, step = rows.indices(self.rows)
        if step != 1:
            return self.take(np.arange(start, stop, step))
        offsets = self.offsets[start : max(start, stop) + 1]
        return Ragged(self.values[offsets[0] : offsets[-1]], offsets - offsets[0], self.buckets, self.pad, self.mask)

    def feeds(self, name: str, length: int) -> dict[str, npt.NDArray[Any]]:
        """The rows padded to a length, shape (rows, length), under the input's name, and the mask under its own.

        Without a copy where every row has that length.

        Raises:
            ValueError: a row is longer.
        """
        lengths = self.lengths
        if lengths.size and int(lengths.max()) > length:
            message = f"a row of {name} has {int(lengths.max())} elements, and it is to be padded to {length}"
            raise ValueError(message)
        shape = (self.rows, length)
        is_element = None
        if self.values.size == self.rows * length:
            padded = self.values.reshape(shape)
        else:
            is_element = np.arange(length) < lengths[:, None]
            padded = np.full(shape, self.pad, dtype=self.values.dtype)
            padded[is_element] = self.values
        if self.mask is None:
            return {name: padded}
        dtype = np.dtype(self.mask.dtype)
        mask = np.ones(shape, dtype) if is_element is None else is_element.astype(dtype, copy=False)
        return {name: padded, self.mask.model_input: mask}


Tensor: TypeAlias = "npt.NDArray[Any] | Ragged"
"""What feeds an input of a model: an array whose first axis is the rows, or rows of several lengths."""


def padded_feeds(tensors: Mapping[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
    """Arrays for one call of a model over all rows: each ragged tensor is padded to the largest length that one of its
    rows is padded to (1, or the smallest bucket, where there are no rows), with its mask.
    """  # noqa: D205  one sentence
    feeds: dict[str, npt.NDArray[Any]] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, Ragged):
            least = tensor.buckets[0] if tensor.buckets else 1
            feeds.update(tensor.feeds(name, int(tensor.bucket_lengths().max(initial=least))))
        else:
            feeds[name] = tensor
    return feeds


def _offsets(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])
