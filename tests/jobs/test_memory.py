"""The projected memory of a task against what its worker really took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.servers

REPOSITORY = Path(__file__).parents[2]

RUN = """
import json, sys
from jobs.config.job import read_config
from jobs.run import RunRequest, run
for path in sys.argv[1:]:
    record = run(RunRequest(config=read_config(path), run_id="r"))
    print("PEAK", json.dumps([record.projected_task_bytes, record.peak_task_bytes]))
"""


def write_job(folder: Path, *, rows: int, width: int, outputs: int) -> Path:
    """A job over one file: `width` columns and one score, or one vector of `width` in and `outputs` out."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    values = rng.normal(size=(rows, width)).astype(np.float32)
    if outputs > 1:
        offsets = np.arange(0, rows * width + 1, width, dtype=np.int32)
        columns = {"x": pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)))}
    else:
        columns = {f"f{number}": values[:, number] for number in range(width)}
    (folder / "in").mkdir()
    pq.write_table(pa.table({"id": np.arange(rows), **columns}), folder / "in" / "a.parquet", row_group_size=rows // 2)
    weights = rng.normal(size=(width, outputs)).astype(np.float32) / width
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["X", "W"], ["p"])],
        "linear",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, outputs])],
        [numpy_helper.from_array(weights, "W")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(folder / "m.onnx")
    )
    job = {
        "api_version": "batchscore/1",
        "name": "memory",
        "input": {"files": str(folder / "in")},
        "model": {"onnx": str(folder / "m.onnx"), "inputs": {"X": list(columns) if outputs == 1 else "x"}},
        "output": {"uri": str(folder / "out"), "passthrough": ["id"]},
        "splits": {"target_bytes": "1GB"},
        "spark": {"master": "local[1,4]", "conf": {"spark.python.worker.reuse": "false"}},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return folder / "job.yaml"


def test_projected_memory_is_within_thirty_percent_of_the_peak(tmp_path: Path) -> None:
    """On a narrow, a wide and a vector shape the projection is within ±30 % of a worker's measured peak."""
    jobs = [
        write_job(tmp_path / "narrow", rows=1_000_000, width=5, outputs=1),
        write_job(tmp_path / "wide", rows=100_000, width=200, outputs=1),
        write_job(tmp_path / "vector", rows=30_000, width=784, outputs=784),
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *jobs], check=True, capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    peaks = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("PEAK ")]
    assert len(peaks) == len(jobs)
    for projected, measured in peaks:
        assert 0.7 <= projected / measured <= 1.3, peaks
