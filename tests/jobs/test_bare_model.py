"""A bare .onnx file, bound to columns in every way: its published scores are those of plain onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper

from etl.arrivals import check_entry
from etl.errors import BatchscoreError
from etl.pipeline import Pipeline
from etl.ragged import padded_feeds
from jobs.config.job import Model, read_config
from jobs.planning.model import resolve_model
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


@pytest.mark.parametrize("kind", [pa.binary(), pa.binary(WIDTH)])
def test_an_image_may_be_stored_as_bytes(spark: SparkSession, tmp_path: Path, kind: pa.DataType) -> None:
    """Rows of bytes, of one length by their type or not, feed an input of uint8 whose axes say how many they are; one
    of another length is set aside.
    """  # noqa: D205  one sentence
    matrix = np.random.default_rng(2).integers(0, 256, (ROWS, WIDTH), dtype=np.uint8)
    rows = [row.tobytes() for row in matrix]
    gone = [] if pa.types.is_fixed_size_binary(kind) else [4]
    rows = [row + b"!" if number in gone else row for number, row in enumerate(rows)]
    model = sum_model(TensorProto.UINT8, [1, WIDTH])
    table = pa.table({"id": range(ROWS), "x": pa.array(rows, kind)})
    found = scored(tmp_path, model, table, binding={}, budgets={"contract": {"max_rows": 1}})
    wanted = matrix.sum(axis=1).astype(np.float64)
    wanted[gone] = np.nan
    np.testing.assert_array_equal(found, wanted)


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


def test_a_model_of_a_fixed_number_of_rows_is_fed_so_many(spark: SparkSession, tmp_path: Path) -> None:
    """A model that takes eight rows a call, and no other number, scores any number of rows as one of any would."""

    def linear(rows: int | None) -> bytes:
        return model_of(
            [helper.make_node("MatMul", ["X", "W"], ["p"])],
            {"X": (TensorProto.FLOAT, [rows, WIDTH])},
            {"p": (TensorProto.FLOAT, [rows, 1])},
            W=WEIGHTS,
        )

    matrix = np.random.default_rng(3).normal(size=(ROWS, WIDTH)).astype(np.float32)
    assert ROWS % 8
    table = pa.table({"id": range(ROWS), "X": pa.array(matrix.tolist(), pa.list_(pa.float32()))})
    found = scored(tmp_path, linear(8), table, binding={})
    np.testing.assert_allclose(found, plain_scores(linear(None), X=matrix), rtol=1e-5, atol=1e-6)


def bound(folder: Path, onnx: bytes, table: pa.Table, **model: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What a bare model is fed with for a table, padded to one length, and the rows that it is fed."""
    (folder / "model.onnx").write_bytes(onnx)
    config = Model.model_validate({"onnx": str(folder / "model.onnx"), **model})
    pipeline = Pipeline(resolve_model(config, table.schema).spec, {})
    check_entry(pipeline.spec, table.schema, "rows")
    made = pipeline.transform(pipeline.contract(table, "rows"))
    kept = np.arange(table.num_rows) if made.kept is None else made.kept
    return padded_feeds(made.tensors), kept


def sum_model(dtype: int, axes: list[int | str | None], **masks: int) -> bytes:
    """The sum of all values of a row of x, and of each of the masks."""
    inputs = {"x": (dtype, [None, *axes]), **{name: (kind, [None, *axes]) for name, kind in masks.items()}}
    nodes = []
    for name in inputs:
        nodes.append(helper.make_node("Cast", [name], [f"{name}_d"], to=TensorProto.DOUBLE))
        nodes.append(
            helper.make_node("ReduceSum", [f"{name}_d", "axes"], [f"{name}_sum"], keepdims=0)
            if axes
            else helper.make_node("Identity", [f"{name}_d"], [f"{name}_sum"])
        )
    nodes.append(helper.make_node("Sum", [f"{name}_sum" for name in inputs], ["p"]))
    constants = {"axes": np.arange(1, len(axes) + 1)} if axes else {}
    return model_of(nodes, inputs, {"p": (TensorProto.DOUBLE, [None])}, **constants)


DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")


@pytest.mark.parametrize("dtype", [*DTYPES, "bool"])
def test_a_list_column_feeds_an_input_of_its_own_type(tmp_path: Path, dtype: str) -> None:
    """Lists of each number reach an input of that type, of rank 3, with the values that they have, without a copy."""
    values = np.random.default_rng(9).integers(0, 2 if dtype == "bool" else 100, (50, 6)).astype(dtype)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 6)
    model = sum_model(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [2, 3])
    feeds, kept = bound(tmp_path, model, pa.table({"x": column}))
    assert kept.size == 50
    assert feeds["x"].dtype == dtype
    assert np.array_equal(feeds["x"], values.reshape(50, 2, 3))
    if dtype not in {"bool", "uint64"}:
        assert np.shares_memory(feeds["x"], column.flatten().to_numpy())
    assert np.array_equal(plain_scores(model, **feeds), values.astype(np.float64).sum(axis=1))


@pytest.mark.parametrize(
    ("axes", "columns", "inputs"),
    [
        ([1, 4, 6], {"x": pa.list_(pa.float32())}, None),
        ([4, 6], {"x": pa.list_(pa.list_(pa.float64()))}, None),
        (["height", 6], {"x": pa.list_(pa.float32(), 24)}, None),
        ([24], {"x": pa.large_list(pa.large_list(pa.float32()))}, None),
        ([2, 12], {f"c{place}": pa.float32() for place in range(24)}, [f"c{place}" for place in range(24)]),
        ([2, 3, 4], {"a": pa.list_(pa.float32(), 12), "b": pa.list_(pa.float32(), 12)}, ["a", "b"]),
    ],
)
def test_an_input_of_any_rank_is_fed(
    tmp_path: Path, axes: list[int | str | None], columns: dict[str, pa.DataType], inputs: list[str] | None
) -> None:
    """Lists, lists of lists and columns side by side fill the declared axes in row-major order, one of them open."""
    values = np.random.default_rng(10).normal(size=(30, 24)).astype(np.float32)
    table, start = {}, 0
    for name, kind in columns.items():
        width = 24 // len(columns)
        part = values[:, start : start + width]
        start += width
        nested = pa.types.is_nested(kind) and pa.types.is_nested(kind.value_type)
        table[name] = pa.array((part.reshape(30, 4, 6) if nested else part.squeeze()).tolist(), kind)
    model = sum_model(TensorProto.FLOAT, axes)
    feeds, _ = bound(tmp_path, model, pa.table(table), **({"inputs": {"x": inputs}} if inputs else {}))
    shape = [24 // 6 if isinstance(size, str) else size for size in axes]
    assert np.array_equal(feeds["x"], values.reshape(30, *shape))
    np.testing.assert_allclose(plain_scores(model, **feeds), values.astype(np.float64).sum(axis=1), atol=1e-9)


LISTS: list[Any] = [[1, 2, 3], [], None, [4], [None, 1], [5] * 9]


@pytest.mark.parametrize(
    ("ragged", "kept", "length"),
    [
        ({"on_ragged": "pad", "pad": 7}, [0, 1, 3, 5], 9),
        ({"on_ragged": "pad", "pad": 7, "buckets": [4, 16]}, [0, 1, 3, 5], 16),
        ({"on_ragged": "pad", "pad": 7, "buckets": [2, 4]}, [0, 1, 3], 4),
        ({"on_ragged": "pad", "pad": 7, "buckets": [4], "too_long": "truncate"}, [0, 1, 3, 5], 4),
    ],
)
def test_lists_of_several_lengths_are_padded_as_the_config_says(
    tmp_path: Path, ragged: dict[str, Any], kept: list[int], length: int
) -> None:
    """Rows are filled up to the longest or to a bucket, with a mask, cut where that is said; nulls are set aside."""
    table = pa.table({"x": pa.array(LISTS, pa.list_(pa.int32()))})
    model = sum_model(TensorProto.INT64, [None], m=TensorProto.BOOL)
    said = {"x": {**ragged, "mask": {"model_input": "m", "dtype": "bool"}}}
    feeds, found = bound(tmp_path, model, table, ragged=said)
    rows = [(LISTS[row] or [])[:length] for row in kept]
    assert found.tolist() == kept
    assert feeds["x"].tolist() == [[*row, *[7] * (length - len(row))] for row in rows]
    assert feeds["m"].tolist() == [[True] * len(row) + [False] * (length - len(row)) for row in rows]
    wanted = [sum(row) + 7 * (length - len(row)) + len(row) for row in rows]
    assert plain_scores(model, **feeds).tolist() == wanted


def test_lists_of_a_declared_length_are_checked(tmp_path: Path) -> None:
    """With `on_ragged: error` the rows that do not fill the model's axes are set aside, and the others fed."""
    table = pa.table({"x": pa.array(LISTS, pa.list_(pa.int32()))})
    said = {"x": {"on_ragged": "error"}}
    feeds, kept = bound(tmp_path, sum_model(TensorProto.INT64, [3, 1]), table, ragged=said)
    assert (kept.tolist(), feeds["x"].tolist()) == ([0], [[[1], [2], [3]]])


def test_no_null_is_scored_by_accident(tmp_path: Path) -> None:
    """A null inside a list sets its row aside, whatever `nulls` says; NaN is scored, and a null list is NaN if told."""
    rows = [[1.0, 2.0], None, [None, 1.0], [float("nan"), 1.0], [3.0]]
    table = pa.table({"x": pa.array(rows, pa.list_(pa.float64()))})
    model = sum_model(TensorProto.DOUBLE, [2])
    for nulls, kept in (("reject", [0, 3]), ("nan", [0, 1, 3])):
        feeds, found = bound(tmp_path, model, table, nulls=nulls)
        assert found.tolist() == kept
        wanted = np.array([rows[row] or [np.nan, np.nan] for row in kept])
        np.testing.assert_array_equal(feeds["x"], wanted)


@pytest.mark.parametrize(
    ("kind", "model", "config", "said"),
    [
        (
            pa.list_(pa.int64()),
            sum_model(TensorProto.INT64, [None]),
            {},
            r"neither it nor the model says how long .*model\.ragged: \{x: \{on_ragged: pad\}\}",
        ),
        (pa.list_(pa.int64()), sum_model(TensorProto.INT64, [None, 3]), {}, "Fix its axes in the model"),
        (pa.list_(pa.float32()), sum_model(TensorProto.INT64, [3]), {}, "a tensor of int64 does not take it"),
        (pa.float64(), sum_model(TensorProto.INT64, []), {}, "column 'x' is float64, a tensor of int64 does not"),
        (pa.list_(pa.int64(), 5), sum_model(TensorProto.INT64, [3]), {}, "is fed with 5 columns"),
        (pa.list_(pa.int64(), 5), sum_model(TensorProto.INT64, [None, 3]), {}, "do not tell how long each"),
        (
            pa.list_(pa.int64()),
            sum_model(TensorProto.INT64, [None]),
            {"ragged": {"y": {"on_ragged": "pad"}}},
            "has no input 'y'",
        ),
        (
            pa.list_(pa.int64()),
            sum_model(TensorProto.INT64, [None]),
            {"ragged": {"x": {"on_ragged": "pad", "mask": {"model_input": "m"}}}},
            "has no input 'm'",
        ),
        (
            pa.list_(pa.int64()),
            sum_model(TensorProto.UINT8, [None]),
            {"ragged": {"x": {"on_ragged": "pad", "pad": -1}}},
            "pad -1 is no uint8",
        ),
        (
            pa.list_(pa.int64()),
            sum_model(TensorProto.INT64, [None]),
            {"ragged": {"x": {"on_ragged": "error"}}},
            "do not tell how long",
        ),
        (
            pa.int64(),
            sum_model(TensorProto.INT64, [None]),
            {"ragged": {"x": {"on_ragged": "pad"}}},
            "whose rows are of one length",
        ),
        (
            pa.list_(pa.int64()),
            sum_model(TensorProto.INT64, [3], y=TensorProto.UINT8),
            {"inputs": {"y": "x"}},
            r"'x' feeds two model inputs, as int64\[3\] and as uint8\[3\]",
        ),
        (pa.list_(pa.string()), sum_model(TensorProto.FLOAT, [3]), {}, "column 'x' .* string"),
    ],
)
def test_what_cannot_be_fed_is_refused_before_work(
    tmp_path: Path, kind: pa.DataType, model: bytes, config: dict[str, Any], said: str
) -> None:
    """A column that does not fit its input is refused with what to do, before a row is read."""
    with pytest.raises(BatchscoreError, match=said):
        bound(tmp_path, model, pa.table({"x": pa.nulls(3, kind)}), **config)


def test_ragged_goes_with_a_bare_model() -> None:
    """A bundle's spec says how its rows are padded, so a config does not."""
    with pytest.raises(ValueError, match="`ragged` and `nulls` go with `onnx`"):
        Model.model_validate({"bundle": "b", "ragged": {"x": {"on_ragged": "pad"}}})
