"""What a worker notes of the rows that it publishes, so that drift can be measured: a sketch of each split.

It is only told about: where a sketch cannot be made or stored, the split has none, and its predictions stand.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from etl.sketches.counting import Counts, counts_of, counts_without, values_of
from etl.sketches.sketch import EVERY, Sampler

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from etl.frame import Column
    from etl.runs.splits import Split
    from etl.runs.storage import Storage
    from etl.sketches.counting import Values
    from scoring.engine.items import Result
    from scoring.order import SketchColumn, SketchOrder

__all__ = ["Published", "Sketcher", "sketcher_of"]

_FEWEST_ROWS = 256
_MARGIN = 2
"""Where nobody can tell how many rows there are, a split keeps so many times its share of the run's sample: of the
bounds of all splits the lowest one holds.
"""
_SPARE = 1.5
"""All splits together keep so many times the run's sample, where the number of rows is as it was estimated."""


class Published(NamedTuple):
    """Rows of a batch that are published."""

    rows: pa.RecordBatch
    results: Sequence[Result | None]
    positions: npt.NDArray[np.int64]
    """Of each published row, the position in the batch of the row that it was made of, ascending."""
    hashes: npt.NDArray[np.uint64]
    """Of the rows of the batch."""


class _Column(NamedTuple):
    """A column of a batch, and which of its rows are published."""

    values: npt.NDArray[np.generic] | pa.Array[pa.Scalar]
    kept: npt.NDArray[np.int64] | None
    """None: all of them."""


class Sketcher:
    """The sketch of one split while its rows flow by."""

    def __init__(self, columns: Sequence[SketchColumn], most_rows: int, below: int = EVERY) -> None:
        """Start empty; `below` is a bound of the hashes that holds from the first row on."""
        self._columns = columns
        self._sampler = Sampler({column.name: column.kind for column in columns}, most_rows, below)
        self._counts = {column.name: Counts() for column in columns}
        self._is_broken = False

    def take(self, published: Published) -> None:
        """Take in rows of a batch."""
        if self._is_broken:
            return
        try:
            self._take(published)
        except Exception as error:  # noqa: BLE001  whatever it is, scores do not depend on it
            self._give_up(error)

    def _take(self, published: Published) -> None:
        positions, hashes = published.positions, published.hashes
        is_all = positions.size == hashes.size and bool((positions[1:] > positions[:-1]).all())
        if not is_all:
            hashes = hashes[positions]
        wanted = self._sampler.wanted(hashes)
        taken: list[Values] = []
        for column in self._columns:
            values, kept = _column(column, published, is_all=is_all)
            before = self._counts[column.name]
            counts = counts_of(values) if kept is None else counts_without(values, kept, before)
            self._counts[column.name] = before.merged(counts)
            if wanted.size:
                rows = wanted if kept is None else kept[wanted]
                taken.append(values[rows] if isinstance(values, np.ndarray) else values.take(pa.array(rows)))
        if wanted.size:
            self._sampler.add(hashes[wanted], taken)

    def store(self, storage: Storage, path: str) -> str | None:
        """Write the sketch; its path, or None where there is none."""
        if self._is_broken:
            return None
        try:
            data = self._sampler.finish(self._counts).to_bytes()
            return path if storage.create_if_absent(path, data) else None
        except Exception as error:  # noqa: BLE001  as above
            self._give_up(error)
            return None

    def _give_up(self, error: Exception) -> None:
        """The driver tells how many splits have no sketch; why, only the log of the worker has."""
        self._is_broken = True
        warnings.warn(f"a split has no sketch: {type(error).__name__}: {error}", stacklevel=3)


def sketcher_of(order: SketchOrder | None, split: Split) -> Sketcher | None:
    """What sketches a split; None where nothing is to be sketched."""
    if order is None:
        return None
    if order.of_rows is None:
        share = split.bytes / max(1, order.bytes)
        rows = min(order.rows, max(_FEWEST_ROWS, int(_MARGIN * order.rows * share)))
        return Sketcher(order.columns, rows)
    # One bound for all splits: rows of a split need not be its share of the bytes, where a row group is larger.
    most = int(_SPARE * order.rows)
    return Sketcher(order.columns, order.rows, EVERY if order.of_rows <= most else EVERY * most // order.of_rows)


def _column(column: SketchColumn, published: Published, *, is_all: bool) -> _Column:
    if column.model is None:
        return _Column(values_of(published.rows.column(column.name)), None)
    result = published.results[column.model]
    assert result is not None  # noqa: S101  every model is given all rows where a column of one is asked for
    values: Column = result.frame[column.field]
    return _Column(values_of(values), None if is_all else published.positions)
