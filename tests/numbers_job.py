"""The numbers job that most tests run: its input, its weights, its oracle, and an independent reader of its output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

JobWriter = Callable[..., Path]
"""What the fixture `job_file` gives."""

WEIGHTS = np.array([[0.5], [-1.25], [2.0], [0.0625]], dtype=np.float32)
"""Of the logistic model that most tests score with."""

FEATURES = ("f0", "f1", "f2", "f3")
"""Its input columns."""


def logistic_scores(table: pa.Table) -> dict[int, float]:
    """Score by id in numpy float32: the oracle for `logistic_onnx`."""
    matrix = np.stack([table.column(name).to_numpy() for name in FEATURES], axis=1).astype(np.float32)
    scores = 1 / (1 + np.exp(-(matrix @ WEIGHTS)[:, 0]))
    return dict(zip(table.column("id").to_pylist(), scores.tolist(), strict=True))


def write_numbers(folder: Path, *, files: int, rows: int, row_group: int, seed: int = 7) -> pa.Table:
    """Parquet files of `rows` rows each with a unique `id` and the four features; all rows as one table."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for number in range(files):
        ids = np.arange(number * rows, (number + 1) * rows, dtype=np.int64)
        columns = {name: rng.normal(size=rows).astype(np.float32) for name in FEATURES}
        tables.append(pa.table({"id": ids, **columns}))
        pq.write_table(tables[-1], folder / f"part-{number}.parquet", row_group_size=row_group)
    return pa.concat_tables(tables)


def published_scores(folder: Path, column: str = "p") -> dict[int, float]:
    """Score by id as plain pyarrow reads a run's folder; fails on an id that is there twice."""
    table = ds.dataset(folder, format="parquet").to_table()
    ids = table.column("id").to_pylist()
    assert len(ids) == len(set(ids)), "an id is published twice"
    return dict(zip(ids, table.column(column).to_pylist(), strict=True))
