"""onnxruntime as all but ours and MLflow use it: one thread, loaded once, fed in calls of the model's knee."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime as ort
import pyarrow as pa

from tests.bench.workload import BUCKETS, PIXELS, Shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.bench.workload import Task

__all__ = ["Scoring", "arrow_scores", "as_arrow", "knee", "scores", "session_of", "tensors"]

_SIZES = tuple(1 << power for power in range(4, 14))
"""Rows of a call that the search for the knee tries."""
_TRIES = 3
_NEAR = 1.02
_KNEE_ROWS = 1 << 14
_KNEE_CALL = 1 << 10
"""Rows that a size is timed on, at least."""


class Scoring(NamedTuple):
    """What a worker of a peer needs to know; it is sent to it."""

    onnx: str
    shape: Shape
    width: int
    model_rows: int

    @classmethod
    def of(cls, task: Task) -> Scoring:
        """What a task asks for."""
        return cls(str(task.onnx), task.kind.shape, task.kind.width, task.model_rows)


# In an imported module on purpose: a cache in `__main__` would be pickled by value and rebuilt in every task.
@functools.cache
def session_of(path: str) -> ort.InferenceSession:
    """The process's session of a model, made after the fork that made the process."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def scores(scoring: Scoring, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    """Scores of tensors, call by call; shape (rows, width)."""
    session, size = session_of(scoring.onnx), scoring.model_rows
    rows = len(next(iter(feeds.values())))
    parts = [
        session.run(None, {name: values[start : start + size] for name, values in feeds.items()})[0]
        for start in range(0, rows, size)
    ]
    return np.concatenate(parts) if parts else np.empty((0, scoring.width), dtype=np.float32)


def tensors(shape: Shape, columns: Sequence[Any]) -> Iterator[tuple[slice | np.ndarray, dict[str, np.ndarray]]]:
    """Rows and their tensors, of columns of Arrow or of anything else with `to_numpy`. Ids come bucket by bucket."""
    if shape == "columns":
        matrix = np.empty((len(columns[0]), len(columns)), dtype=np.float32)
        for position, column in enumerate(columns):
            matrix[:, position] = column.to_numpy()
        yield slice(None), {"X": matrix}
        return
    if shape == "list" and not isinstance(columns[0], pa.Array | pa.ChunkedArray):
        yield slice(None), {"X": np.stack(columns[0].to_numpy())}
        return
    column = _list_array(columns[0])
    if shape == "list":
        yield slice(None), {"X": column.flatten().to_numpy().reshape(-1, PIXELS)}
        return
    ends, values = column.offsets.to_numpy(), column.values.to_numpy()
    lengths = np.diff(ends)
    for shorter, length in zip((0, *BUCKETS), BUCKETS, strict=False):
        rows = np.flatnonzero((lengths > shorter) & (lengths <= length))
        if rows.size:
            places = np.arange(length)
            mask = places < lengths[rows, None]
            ids = np.zeros(mask.shape, dtype=np.int64)
            ids[mask] = values[(ends[:-1][rows, None] + places)[mask]]
            yield rows, {"ids": ids, "mask": mask.astype(np.int64)}


def _list_array(column: Any) -> pa.ListArray:
    if isinstance(column, pa.ChunkedArray):
        return column.combine_chunks()
    return column if isinstance(column, pa.ListArray | pa.LargeListArray) else pa.array(column)


def arrow_scores(scoring: Scoring, columns: Sequence[Any]) -> pa.Array:
    """Scores of columns as an Arrow array: of float32, or of lists of them."""
    parts = [(rows, scores(scoring, feeds)) for rows, feeds in tensors(scoring.shape, columns)]
    if len(parts) == 1 and isinstance(parts[0][0], slice):
        found = parts[0][1]
    else:
        found = np.empty((len(columns[0]), scoring.width), dtype=np.float32)
        for rows, values in parts:
            found[rows] = values
    return as_arrow(found)


def as_arrow(found: np.ndarray) -> pa.Array:
    """Scores of shape (rows, width). Lists are not of fixed size: Parquet's writer takes three times as long for those."""
    rows, width = found.shape
    values = pa.array(found.reshape(-1))
    return values if width == 1 else pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * width, values)


def knee(scoring: Scoring, columns: Sequence[pa.Array]) -> tuple[int, dict[int, float]]:
    """Rows of a call: the smallest size whose time a row is within 2 % of the best; and rows a second by size."""
    rates: dict[int, float] = {}
    [*_, (_, feeds)] = tensors(scoring.shape, [column[:_KNEE_ROWS] for column in columns])
    for size in _SIZES:
        limited = {name: values[: max(size, _KNEE_CALL)] for name, values in feeds.items()}
        rows = len(next(iter(limited.values())))
        if rows < size:
            break
        seconds = []
        for _ in range(_TRIES + 1):  # the first one warms up
            start = time.perf_counter()
            scores(scoring._replace(model_rows=size), limited)
            seconds.append(time.perf_counter() - start)
        rates[size] = rows / min(seconds[1:])
    best = max(rates.values())
    return next(size for size, rate in rates.items() if rate * _NEAR >= best), rates
