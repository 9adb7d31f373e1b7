"""Batches of the model: rows of several batches of the reader, of row groups and of splits together, padded where told.

Rows wait here until there are enough for one call. Rows that are padded to different lengths are never in one call.
What the model made is given back to where the rows came from, in their order.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from etl.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from etl.ragged import Tensor

__all__ = ["Batcher", "Lengths", "ModelBatch", "Outcome", "Part", "Portion", "in_order"]

Rows: TypeAlias = "slice | npt.NDArray[np.int64]"
Lengths: TypeAlias = tuple[int, ...]
"""To which length each ragged tensor is padded; nothing where none has buckets."""


class Outcome(NamedTuple):
    """What the model made of some rows."""

    rows: npt.NDArray[np.int64]
    """Which of them it scored."""
    outputs: dict[str, npt.NDArray[Any]]
    """By name; the first axis of each is those rows. Empty where there is none."""
    failed: tuple[tuple[int, str], ...] = ()
    """The others, each with the reason."""


class Portion:
    """Rows that go to the model together, and what came back of them so far."""

    def __init__(self, tensors: Mapping[str, Tensor], rows: int, owner: Any, *, numbers: Any = None) -> None:
        """Nothing has come back. `owner` and `numbers` are whose rows they are, for whoever calls the model."""
        self.owner = owner
        self.numbers = numbers
        self.tensors = tensors
        self.rows = rows
        self.outcomes: list[Outcome] = []
        self._waiting = rows

    @property
    def is_done(self) -> bool:
        """Whether each row came back."""
        return self._waiting == 0

    def take(self, rows: Rows, outcome: Outcome) -> None:
        """Some rows came back; the outcome's positions are among `rows`."""
        numbers = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        self._waiting -= numbers.size
        if outcome.rows.size == numbers.size:
            self.outcomes.append(Outcome(numbers, outcome.outputs))
            return
        failed = tuple((int(numbers[row]), reason) for row, reason in outcome.failed)
        self.outcomes.append(Outcome(numbers[outcome.rows], outcome.outputs, failed))


class Part(NamedTuple):
    """The rows of one portion in a batch of the model."""

    portion: Portion
    rows: Rows
    size: int

    @property
    def ends(self) -> tuple[int, int]:
        """Positions in the portion of the first and the last row."""
        if isinstance(self.rows, slice):
            return self.rows.start, self.rows.stop - 1
        return int(self.rows[0]), int(self.rows[-1])


class ModelBatch(NamedTuple):
    """What one call of the model gets."""

    feeds: dict[str, npt.NDArray[Any]]
    rows: int
    parts: tuple[Part, ...]
    """Whose rows they are, in the order of the feeds."""

    def give_back(self, outcome: Outcome) -> None:
        """Hand what the model made to the portions."""
        if len(self.parts) == 1:
            [part] = self.parts
            part.portion.take(part.rows, outcome)
            return
        start = 0
        for part in self.parts:
            end = start + part.size
            first, last = np.searchsorted(outcome.rows, (start, end))
            outputs = {name: values[first:last] for name, values in outcome.outputs.items()}
            failed = tuple((row - start, reason) for row, reason in outcome.failed if start <= row < end)
            part.portion.take(part.rows, Outcome(outcome.rows[first:last] - start, outputs, failed))
            start = end


class _Pool:
    """Rows that may share a call."""

    def __init__(self) -> None:
        self.parts: deque[Part] = deque()
        self.size = 0

    def add(self, part: Part) -> None:
        self.parts.append(part)
        self.size += part.size

    def cut(self, rows: int) -> tuple[Part, ...]:
        """The first `rows` rows, or all."""
        taken: list[Part] = []
        while rows and self.parts:
            part = self.parts.popleft()
            if part.size > rows:
                self.parts.appendleft(_slice(part, rows, part.size))
                part = _slice(part, 0, rows)
            taken.append(part)
            rows -= part.size
            self.size -= part.size
        return tuple(taken)


class Batcher:
    """Cuts portions into batches of the model."""

    def __init__(self) -> None:
        """Nothing waits."""
        self._pools: dict[Lengths, _Pool] = {}

    def add(self, portion: Portion) -> None:
        """Rows that are to be scored."""
        for lengths, rows, size in _by_lengths(portion):
            self._pools.setdefault(lengths, _Pool()).add(Part(portion, rows, size))

    @property
    def lengths(self) -> list[Lengths]:
        """What rows that wait are padded to."""
        return [lengths for lengths, pool in self._pools.items() if pool.size]

    def waiting(self, lengths: Lengths) -> int:
        """How many rows wait to be padded to these lengths."""
        return self._pools[lengths].size if lengths in self._pools else 0

    def cut(self, lengths: Lengths, rows: int) -> ModelBatch:
        """A batch of at most so many rows."""
        parts = self._pools[lengths].cut(rows)
        return ModelBatch(_feeds(parts), sum(part.size for part in parts), parts)


def _by_lengths(portion: Portion) -> list[tuple[Lengths, Rows, int]]:
    """The rows that are padded alike."""
    ragged = [tensor for tensor in portion.tensors.values() if isinstance(tensor, Ragged) and tensor.buckets]
    if not portion.rows:
        return []
    if not ragged:
        return [((), slice(0, portion.rows), portion.rows)]
    lengths = np.stack([tensor.bucket_lengths() for tensor in ragged], axis=1)
    kinds, numbers = np.unique(lengths, axis=0, return_inverse=True)
    order = np.argsort(numbers.reshape(-1), kind="stable")
    borders = np.cumsum(np.bincount(numbers.reshape(-1)))[:-1]
    groups = np.split(order, borders)
    return [(tuple(kind.tolist()), rows, rows.size) for kind, rows in zip(kinds, groups, strict=True)]


def _slice(part: Part, start: int, end: int) -> Part:
    if isinstance(part.rows, slice):
        rows: Rows = slice(part.rows.start + start, part.rows.start + end)
    else:
        rows = part.rows[start:end]
    return Part(part.portion, rows, end - start)


def _feeds(parts: tuple[Part, ...]) -> dict[str, npt.NDArray[Any]]:
    """The tensors of all parts, one behind another; views where there is one part."""
    feeds: dict[str, list[npt.NDArray[Any]]] = {}
    for name, first in parts[0].portion.tensors.items():
        tensors = [part.portion.tensors[name][part.rows] for part in parts]
        if isinstance(first, Ragged):
            padded = [tensor for tensor in tensors if isinstance(tensor, Ragged)]
            length = max(int(tensor.bucket_lengths().max()) for tensor in padded)
            for tensor in padded:
                for fed, values in tensor.feeds(name, max(1, length)).items():
                    feeds.setdefault(fed, []).append(values)
        else:
            feeds[name] = [np.asarray(tensor) for tensor in tensors]
    return {name: values[0] if len(values) == 1 else np.concatenate(values) for name, values in feeds.items()}


def in_order(portion: Portion) -> list[Outcome]:
    """What came back of a portion, row by row in its order: one outcome where the outputs have one shape.

    A model whose outputs have another shape from call to call (their length is that of the batch) gives several, of
    which each is in order.
    """
    outcomes = [outcome for outcome in portion.outcomes if outcome.rows.size]
    if len(outcomes) <= 1:
        return outcomes
    shapes = [{name: values.shape[1:] for name, values in outcome.outputs.items()} for outcome in outcomes]
    if any(shape != shapes[0] for shape in shapes):
        return outcomes
    rows = np.concatenate([outcome.rows for outcome in outcomes])
    outputs = {name: np.concatenate([o.outputs[name] for o in outcomes]) for name in outcomes[0].outputs}
    if (np.diff(rows) > 0).all():
        return [Outcome(rows, outputs)]
    order = np.argsort(rows, kind="stable")
    return [Outcome(rows[order], {name: values[order] for name, values in outputs.items()})]
