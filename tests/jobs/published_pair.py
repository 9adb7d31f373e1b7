"""Runs of a champion and of a challenger over the same rows, with the scores that numpy gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

from jobs.record import RunState
from tests.jobs.outputs import run_job, write_job
from tests.numbers_job import FEATURES, WEIGHTS, write_numbers

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CHALLENGER", "Pair", "challenger_onnx", "publish_pair", "scores_of"]

CHALLENGER = WEIGHTS + np.array([[0.125], [0.0], [-0.25], [0.0]], dtype=np.float32)
"""Weights of its model."""


class Pair(NamedTuple):
    """Two output roots."""

    champion: Path
    """The job that published runs `one`, and after it `two`, of the same rows without the last file."""
    challenger: Path
    """The job that published `other`."""
    rows: pa.Table
    """Key, segment and features of the rows of `one`."""


def publish_pair(folder: Path, onnx_path: Path) -> Pair:
    """Run the jobs; the second run of the champion takes the place of the first one."""
    write_numbers(folder / "in", files=3, rows=200, row_group=100)
    for path in (folder / "in").iterdir():
        table = pq.read_table(path)
        countries = pa.array([("AT", "CH", None)[row % 7 % 3] for row in table["id"].to_pylist()], pa.string())
        pq.write_table(table.append_column("country", countries), path)
    rows = pq.read_table(folder / "in")
    output = {"uri": str(folder / "out"), "passthrough": ["id", "country"], "mode": "overwrite"}
    champion = write_job(folder, onnx_path, output=output)
    assert run_job(champion, "one").state is RunState.SUCCEEDED
    (folder / "in" / "part-2.parquet").rename(folder / "part-2.parquet")
    assert run_job(champion, "two").state is RunState.SUCCEEDED
    (folder / "part-2.parquet").rename(folder / "in" / "part-2.parquet")
    other = folder / "challenger"
    other.mkdir()
    output = {"uri": str(other / "out"), "passthrough": ["id", "country"]}
    job = write_job(other, challenger_onnx(other), output=output, input={"files": str(folder / "in")})
    assert run_job(job, "other").state is RunState.SUCCEEDED
    return Pair(champion, job, rows)


def challenger_onnx(folder: Path) -> Path:
    """A model like the one of `logistic_onnx`, with the weights of the challenger."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["X", "W"], ["z"]), helper.make_node("Sigmoid", ["z"], ["p"])],
        "logistic",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(CHALLENGER, "W")],
    )
    path = folder / "challenger.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def scores_of(rows: pa.Table, weights: np.ndarray) -> np.ndarray:
    """What a model of these weights gives the rows, in their order."""
    matrix = np.stack([rows[name].to_numpy() for name in FEATURES], axis=1).astype(np.float32)
    return 1 / (1 + np.exp(-(matrix @ weights)[:, 0]))
