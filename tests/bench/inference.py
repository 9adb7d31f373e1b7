"""onnxruntime as all but ours and MLflow use it: one thread, loaded once, fed in slices that fit the cache."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MODEL_ROWS", "arrow_scores", "scores", "session_of"]

MODEL_ROWS = 2048
"""Rows of one call of the model: the activations of 256 float32 a row then fit the caches of a core."""


# In an imported module on purpose: a cache in `__main__` would be pickled by value and rebuilt in every task.
@functools.cache
def session_of(path: str) -> ort.InferenceSession:
    """The process's session of a model, made after the fork that made the process."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def scores(path: str, matrix: np.ndarray) -> np.ndarray:
    """Scores of a (rows, 28) float32 matrix; shape (rows,)."""
    session = session_of(path)
    parts = [
        session.run(None, {"X": matrix[start : start + MODEL_ROWS]})[0] for start in range(0, len(matrix), MODEL_ROWS)
    ]
    return np.concatenate(parts).reshape(-1) if parts else np.empty(0, dtype=np.float32)


def arrow_scores(path: str, columns: Sequence[Any]) -> pa.Array:
    """Scores of Arrow columns or of anything else with `to_numpy`, as an Arrow array."""
    matrix = np.empty((len(columns[0]), len(columns)), dtype=np.float32)
    for position, column in enumerate(columns):
        matrix[:, position] = column.to_numpy()
    return pa.array(scores(path, matrix))
