"""Nobody wins by being wrong: every result is read back whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from tests.bench.inference import tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.workload import Task

__all__ = ["TOLERANCE", "WrongResultError", "check_reference", "check_scores", "read_scores"]

TOLERANCE = 1e-5
_SAMPLE = 1000


class WrongResultError(Exception):
    """A contender's rows are not the ones that were asked for."""


def read_scores(task: Task) -> np.ndarray:
    """Scores by id, of a result that has every id once; shape (rows, width).

    Raises:
        WrongResultError: rows are missing, doubled or of another type.
    """
    found = np.empty((task.rows, task.kind.width), dtype=np.float32)
    for ids, scores in _checked_ids(task):
        found[ids] = scores
    return found


def check_scores(task: Task, wanted: np.ndarray) -> None:
    """Compare all rows with those of the bare loop.

    Raises:
        WrongResultError: a score is off by more than `TOLERANCE`, or rows are missing, doubled or of another type.
    """
    off = 0.0
    for ids, scores in _checked_ids(task):
        # In one piece, and so as not to miss a NaN.
        off = max(off, float(np.nan_to_num(np.abs(scores - wanted[ids]), nan=np.inf).max(initial=0)))
    if off > TOLERANCE:
        raise WrongResultError(f"a score is off by {off:.2g}")


def _checked_ids(task: Task) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ids and scores, batch by batch; after the last one, each id was there once."""
    is_there = np.zeros(task.rows, dtype=bool)
    count = 0
    for batch in ds.dataset(task.out, format="parquet").to_batches(columns=["id", "score"]):
        scores = _matrix(batch.column("score"), task.kind.width)
        if batch.schema.field("id").type != pa.int64() or scores is None:
            raise WrongResultError(f"wrote columns of types {batch.schema.types}")
        ids = batch.column("id").to_numpy()
        count += ids.size
        is_there[ids] = True
        yield ids, scores
    missing = int((~is_there).sum())
    if missing or count != task.rows:
        raise WrongResultError(f"wrote {count} rows of {task.rows}; {missing} ids have no score")


def _matrix(column: pa.Array, width: int) -> np.ndarray | None:
    """Scores as (rows, width); None where they are of another type or length, or missing."""
    kind = column.type
    if column.null_count:
        return None
    if width == 1:
        return column.to_numpy().reshape(-1, 1) if kind == pa.float32() else None
    if not hasattr(kind, "value_type") or kind.value_type != pa.float32():
        return None
    values = column.flatten()
    is_whole = values.null_count == 0 and (np.asarray(pa.compute.list_value_length(column)) == width).all()
    return values.to_numpy().reshape(-1, width) if is_whole else None


def check_reference(found: np.ndarray, task: Task) -> None:
    """Compare the first scores of the bare loop with the model computed in numpy.

    Raises:
        WrongResultError: as above.
    """
    head = next(pq.ParquetFile(task.files[0]).iter_batches(_SAMPLE, columns=["id", *task.kind.columns]))
    ids, reference = head.column("id").to_numpy(), task.kind.make().reference
    for rows, feeds in tensors(task.kind.shape, [head.column(name) for name in task.kind.columns]):
        off = float(np.abs(found[ids[rows]] - reference(feeds)).max())
        if not off <= TOLERANCE:
            raise WrongResultError(f"a score is off numpy's by {off:.2g}")
