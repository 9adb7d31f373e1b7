"""A bare .onnx file, bound to columns in every way: its published scores are those of plain onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper

from jobs.config import read_config
from jobs.errors import Refused
from jobs.run import RunRequest, run
from tests.jobs.outputs import write_job
from tests.numbers_job import published_scores
from tests.scoring.workshop import model_of

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

ROWS = 500
WIDTH = 6
WEIGHTS = np.random.default_rng(1).normal(size=(WIDTH, 1)).astype(np.float32)


def vector_model() -> bytes:
    """sigmoid(X · WEIGHTS) of one two-dimensional input."""
    return model_of(
        [helper.make_node("MatMul", ["X", "W"], ["z"]), helper.make_node("Sigmoid", ["z"], ["p"])],
        {"X": (TensorProto.FLOAT, [None, WIDTH])},
        {"p": (TensorProto.FLOAT, [None, 1])},
        W=WEIGHTS,
    )


def scalar_model() -> bytes:
    """The sum of n and a · b, of three inputs: a (rows, 1), b (rows,) and an integer n (rows,)."""
    nodes = [
        helper.make_node("Squeeze", ["a", "one"], ["flat"]),
        helper.make_node("Cast", ["n"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["flat", "b"], ["product"]),
        helper.make_node("Add", ["product", "number"], ["p"]),
    ]
    inputs: dict[str, Any] = {
        "a": (TensorProto.FLOAT, [None, 1]),
        "b": (TensorProto.FLOAT, [None]),
        "n": (TensorProto.INT64, [None]),
    }
    return model_of(nodes, inputs, {"p": (TensorProto.FLOAT, [None])}, one=np.array([1]))


def plain_scores(model: bytes, **tensors: np.ndarray) -> np.ndarray:
    """What plain onnxruntime gives all rows at once."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["p"], tensors)[0]).reshape(-1)


def write_all(folder: Path, onnx: bytes, table: pa.Table, **sections: Any) -> str:
    """Model, input and job of one test."""
    (folder / "model.onnx").write_bytes(onnx)
    (folder / "in").mkdir()
    pq.write_table(table.slice(0, 300), folder / "in" / "a.parquet", row_group_size=70)
    pq.write_table(table.slice(300), folder / "in" / "b.parquet")
    return str(write_job(folder, folder / "model.onnx", **sections))


def scored(folder: Path, model: bytes, table: pa.Table, *, binding: dict[str, Any], **sections: Any) -> np.ndarray:
    """The published scores in the order of `id`; NaN for a row that has none."""
    job = write_all(folder, model, table, model={"onnx": str(folder / "model.onnx"), **binding}, **sections)
    run(RunRequest(config=read_config(job), run_id="r"))
    found = published_scores(folder / "out" / "run_id=r")
    return np.array([found.get(number, np.nan) for number in range(table.num_rows)])


@pytest.mark.parametrize("type_", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), WIDTH)])
def test_one_input_is_fed_by_one_list_column(spark: SparkSession, tmp_path: Path, type_: pa.DataType) -> None:
    """A model of one two-dimensional input takes a column of lists, variable, large or fixed, in its own order."""
    matrix = np.random.default_rng(2).normal(size=(ROWS, WIDTH)).astype(np.float32)
    table = pa.table({"id": range(ROWS), "x": pa.array(matrix.tolist(), type_)})
    found = scored(tmp_path, vector_model(), table, binding={"inputs": {"X": "x"}})
    np.testing.assert_allclose(found, plain_scores(vector_model(), X=matrix), rtol=1e-6, atol=1e-7)


def test_an_input_is_fed_by_the_list_column_of_its_name(spark: SparkSession, tmp_path: Path) -> None:
    """Without a binding, a list column that has the input's name feeds it."""
    matrix = np.random.default_rng(3).normal(size=(ROWS, WIDTH)).astype(np.float32)
    table = pa.table({"X": pa.array(matrix.tolist(), pa.list_(pa.float32())), "id": range(ROWS)})
    found = scored(tmp_path, vector_model(), table, binding={})
    np.testing.assert_allclose(found, plain_scores(vector_model(), X=matrix), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("binding", [{}, {"inputs": {"b": "other", "a": ["a"]}}])
def test_inputs_are_fed_by_the_columns_of_their_names(
    spark: SparkSession, tmp_path: Path, binding: dict[str, Any]
) -> None:
    """Inputs of one value a row are fed by the columns of their names, whatever the order, unless bound otherwise."""
    rng = np.random.default_rng(4)
    columns = {name: rng.normal(size=ROWS).astype(np.float32) for name in ("b", "a", "other")}
    numbers = rng.integers(-100, 100, ROWS)
    table = pa.table({"n": pa.array(numbers, pa.int16()), **columns, "id": range(ROWS)})
    found = scored(tmp_path, scalar_model(), table, binding=binding)
    fed = columns["other" if binding else "b"]
    expected = plain_scores(scalar_model(), a=columns["a"].reshape(-1, 1), b=fed, n=numbers.astype(np.int64))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def with_holes() -> tuple[pa.Table, np.ndarray]:
    """A table with nulls and NaN in its features, and the same as a matrix with NaN for both."""
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.05] = np.nan
    columns = {}
    for number in range(WIDTH):
        values = [None if np.isnan(value) else float(value) for value in matrix[:, number]]
        columns[f"f{number}"] = pa.array(values, pa.float32())
    matrix[7, 2] = np.nan
    seventh = [float("nan") if row == 7 else value for row, value in enumerate(columns["f2"].to_pylist())]
    columns["f2"] = pa.array(seventh, pa.float32())
    return pa.table({"id": range(ROWS), **columns}), matrix


def nan_model() -> bytes:
    """The sum of the features that are not NaN, so that a score tells what stood in each place."""
    return model_of(
        [
            helper.make_node("IsNaN", ["X"], ["missing"]),
            helper.make_node("Where", ["missing", "hundred", "X"], ["filled"]),
            helper.make_node("MatMul", ["filled", "W"], ["p"]),
        ],
        {"X": (TensorProto.FLOAT, [None, WIDTH])},
        {"p": (TensorProto.FLOAT, [None, 1])},
        W=WEIGHTS,
        hundred=np.array(100, np.float32),
    )


def test_nulls_may_be_nan(spark: SparkSession, tmp_path: Path) -> None:
    """With `nulls: nan` the model is given NaN for null, and every row is scored."""
    table, matrix = with_holes()
    names = [f"f{number}" for number in range(WIDTH)]
    found = scored(tmp_path, nan_model(), table, binding={"nulls": "nan", "inputs": {"X": names}})
    np.testing.assert_allclose(found, plain_scores(nan_model(), X=matrix), rtol=1e-5, atol=1e-5)
    assert np.isnan(matrix).any(axis=1).sum() > 100


def test_nulls_are_set_aside_and_nan_is_scored(spark: SparkSession, tmp_path: Path) -> None:
    """Without it a row with a null has no score, and one with NaN has that of plain onnxruntime."""
    table, matrix = with_holes()
    names = [f"f{number}" for number in range(WIDTH)]
    budgets = {"contract": {"max_ratio": 1.0}}
    found = scored(tmp_path, nan_model(), table, binding={"inputs": {"X": names}}, budgets=budgets)
    has_null = np.array([any(row[name] is None for name in names) for row in table.to_pylist()])
    expected = plain_scores(nan_model(), X=matrix)
    np.testing.assert_allclose(found, np.where(has_null, np.nan, expected), rtol=1e-5, atol=1e-5)
    assert not has_null[7]


def test_a_vector_that_is_null_may_be_nan(spark: SparkSession, tmp_path: Path) -> None:
    """With `nulls: nan` a null in place of a whole vector is a vector of NaN."""
    matrix = np.random.default_rng(6).normal(size=(ROWS, WIDTH)).astype(np.float32)
    vectors = [None if row % 9 == 0 else values for row, values in enumerate(matrix.tolist())]
    matrix[::9] = np.nan
    table = pa.table({"id": range(ROWS), "x": pa.array(vectors, pa.list_(pa.float32()))})
    found = scored(tmp_path, nan_model(), table, binding={"nulls": "nan", "inputs": {"X": "x"}})
    np.testing.assert_allclose(found, plain_scores(nan_model(), X=matrix), rtol=1e-5, atol=1e-5)


def test_a_model_of_fixed_batches_is_refused_before_work(tmp_path: Path) -> None:
    """A model that takes one row a call is refused with what to do, and nothing is scored or written."""
    model = model_of(
        [helper.make_node("MatMul", ["X", "W"], ["p"])],
        {"X": (TensorProto.FLOAT, [1, WIDTH])},
        {"p": (TensorProto.FLOAT, [1, 1])},
        W=WEIGHTS,
    )
    matrix = np.zeros((ROWS, WIDTH))
    table = pa.table({"id": range(ROWS), "X": pa.array(matrix.tolist(), pa.list_(pa.float32()))})
    job = write_all(tmp_path, model, table, model={"onnx": str(tmp_path / "model.onnx")})
    said = r"model input X float32\[1, 6\] has a fixed first axis, the rows of a batch: export it with a dynamic one"
    with pytest.raises(Refused, match=said):
        run(RunRequest(config=read_config(job), run_id="r"))
    assert not list((tmp_path / "out").rglob("*.parquet*"))
