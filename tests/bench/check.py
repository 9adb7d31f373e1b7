"""Nobody wins by being wrong: every result is read back whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from onnx import numpy_helper

from tests.bench.workload import FEATURES, Workload

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TOLERANCE", "WrongResultError", "check_reference", "check_scores", "read_scores"]

TOLERANCE = 1e-5
_SAMPLE = 1000


class WrongResultError(Exception):
    """A contender's rows are not the ones that were asked for."""


def read_scores(out: Path, rows: int) -> np.ndarray:
    """Scores by id, of a result that has every id once.

    Raises:
        WrongResultError: rows are missing, doubled or of another type.
    """
    table = ds.dataset(out, format="parquet").to_table(columns=["id", "score"])
    types = [str(field.type) for field in table.schema]
    if types != ["int64", "float"]:
        raise WrongResultError(f"wrote columns of types {types}")
    if table.num_rows != rows:
        raise WrongResultError(f"wrote {table.num_rows} rows of {rows}")
    found = np.full(rows, np.nan, dtype=np.float32)
    found[table.column("id").to_numpy()] = table.column("score").to_numpy()
    missing = int(np.isnan(found).sum())
    if missing:
        raise WrongResultError(f"{missing} ids have no score")
    return found


def check_scores(found: np.ndarray, wanted: np.ndarray) -> None:
    """Compare all scores with those of the bare loop.

    Raises:
        WrongResultError: one is off by more than `TOLERANCE`.
    """
    off = float(np.abs(found - wanted).max())
    if off > TOLERANCE:
        raise WrongResultError(f"a score is off by {off:.2g}")


def check_reference(found: np.ndarray, work: Workload) -> None:
    """Compare the first scores of the bare loop with the model computed in numpy.

    Raises:
        WrongResultError: as above.
    """
    head = next(pq.ParquetFile(work.files[0]).iter_batches(_SAMPLE, columns=list(FEATURES)))
    value = np.stack([head.column(name).to_numpy() for name in FEATURES], axis=1).astype(np.float64)
    weights = {item.name: numpy_helper.to_array(item) for item in onnx.load(str(work.onnx)).graph.initializer}
    layers = len(weights) // 2
    for layer in range(layers):
        value = value @ weights[f"w{layer}"].astype(np.float64) + weights[f"b{layer}"]
        value = 1 / (1 + np.exp(-value)) if layer == layers - 1 else np.maximum(value, 0)
    check_scores(found[: len(value)].astype(np.float64), value[:, 0])
