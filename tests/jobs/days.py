"""A job with a folder of input for each day, whose config says the day by `${LOGICAL_DATE}`, and its oracle."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

from jobs.config.job import read_config
from jobs.config.variables import logical_date
from jobs.identity import run_id_of_date
from jobs.results import open_results
from jobs.run import RunRequest, run
from tests.jobs.outputs import write_job
from tests.numbers_job import FEATURES, WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from jobs.record import RunRecord

ROWS = 60
"""Of each day."""
DAYS = tuple(f"2026-11-0{number}" for number in range(1, 5))
BY_DAY = {"mode": "overwrite_partitions", "partition_by": ["day"], "passthrough": ["id", "day"]}
"""An output in folders by the day."""

Scores = dict[int, float]


def write_day(folder: Path, day: str, *, rows_of: tuple[str, ...] = (), **columns: Any) -> None:
    """The input of a day, with ids that no other day has; its rows are of the days `rows_of`, in turn."""
    number = int(day[-2:])
    rng = np.random.default_rng(number)
    days = [dt.date.fromisoformat(one) for one in rows_of or (day,)]
    told = {
        "id": pa.array(number * 1000 + np.arange(ROWS)),
        "day": pa.array([days[row % len(days)] for row in range(ROWS)]),
        **{name: rng.normal(size=ROWS).astype(np.float32) for name in FEATURES},
        **columns,
    }
    place = folder / "in" / f"day={day}"
    place.mkdir(parents=True, exist_ok=True)
    # The folder says the day, too, which readers of folders would find twice.
    pq.write_table(pa.table(told), place / "rows.parquet")


def model_at(path: Path, scale: float) -> Path:
    """sigmoid(X · scale · WEIGHTS)."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["X", "W"], ["z"]), helper.make_node("Sigmoid", ["z"], ["p"])],
        "logistic",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array((WEIGHTS * scale).astype(np.float32), "W")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def daily_job(folder: Path, model: Path, output: dict[str, Any], **sections: Any) -> Path:
    """A job of the day that it is run for."""
    told = {"uri": str(folder / "out"), **output}
    files = str(folder / "in" / "day=${LOGICAL_DATE}")
    return write_job(folder, model, input={"files": files}, output=told, **sections)


def run_day(job: Path, day: str, *sets: str, run_id: str | None = None) -> RunRecord:
    """Run it for a day in this process."""
    date = logical_date(day)
    config = read_config(str(job), sets, date=date)
    name = run_id or run_id_of_date(config.name, date)
    return run(RunRequest(config=config, run_id=name, logical_date=date))


def oracle(folder: Path, day: str, model: Path) -> Scores:
    """What plain onnxruntime makes of a day's rows, by id."""
    table = pq.ParquetFile(folder / "in" / f"day={day}" / "rows.parquet").read()
    matrix = np.stack([table.column(name).to_numpy() for name in FEATURES], axis=1)
    [scores] = onnxruntime.InferenceSession(str(model)).run(None, {"X": matrix})
    return dict(zip(table.column("id").to_pylist(), scores[:, 0].tolist(), strict=True))


def published(folder: Path) -> Scores:
    """What DuckDB reads of the files of the newest version, by id; fails on an id that is there twice."""
    files = open_results(str(folder / "out")).files.column("path").to_pylist()
    rows = duckdb.read_parquet(files).select("id", "p").fetchall()
    found = dict(rows)
    assert len(found) == len(rows), "an id is published twice"
    return found
