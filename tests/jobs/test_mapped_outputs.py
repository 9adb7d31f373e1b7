"""Mapped outputs from a job's config to every way of reading its results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from etl.errors import DocumentError
from jobs.column_types import arrow_of, spark_of
from jobs.config.job import read_config
from jobs.errors import Refused
from jobs.results import open_results
from jobs.run import RunRequest, run
from tests.jobs.outputs import write_input, write_job
from tests.numbers_job import FEATURES
from tests.scoring.workshop import model_of

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

WEIGHTS = np.random.default_rng(4).normal(size=(4, 3)).astype(np.float32)
COLUMNS: list[dict[str, Any]] = [
    {"column": "logits", "tensor": "z"},
    {"column": "p1", "tensor": "z", "apply": ["softmax", {"element": 1}]},
    {"column": "kind", "tensor": "z", "apply": ["argmax", {"labels": ["a", "b", "ç"]}]},
    {"column": "best", "tensor": "z", "apply": ["softmax", {"top_k": 2}]},
    {"column": "is_b", "tensor": "z", "apply": ["softmax", {"element": 1}, {"threshold": 0.5}]},
    {"column": "root", "tensor": "root", "non_finite": "null"},
]

SCALARS = st.sampled_from(
    [pa.bool_(), pa.int8(), pa.int64(), pa.uint64(), pa.float32(), pa.string(), pa.date32(), pa.timestamp("us", "UTC")]
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: (
        st.builds(pa.list_, inner)
        | st.builds(pa.list_, inner, st.integers(1, 999))
        | st.dictionaries(st.sampled_from(["index", "label", "score"]), inner, min_size=1).map(pa.struct)
    ),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None)
@given(NESTED)
def test_a_type_is_known_by_its_name(type_: pa.DataType) -> None:
    """Arrow's name of a published type, however nested, is read back as the type; with more behind it, it is none."""
    assert arrow_of(str(type_)) == type_
    for other in (f"{type_}>", f"{type_} ", str(type_)[:-1], "list<element: float>", "halffloat"):
        with pytest.raises(DocumentError, match="of a newer batchscore"):
            arrow_of(other)


def net() -> bytes:
    """Z = X · WEIGHTS, (n, 3), and the root of the first feature, which is NaN of half of the rows."""
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["z"]),
        helper.make_node("Gather", ["X", "zero"], ["first"], axis=1),
        helper.make_node("Sqrt", ["first"], ["root"]),
    ]
    outputs = {"z": (TensorProto.FLOAT, [None, 3]), "root": (TensorProto.FLOAT, [None, 1])}
    return model_of(nodes, {"X": (TensorProto.FLOAT, [None, 4])}, outputs, W=WEIGHTS, zero=np.array([0]))


def by_hand(table: pa.Table) -> dict[int, dict[str, Any]]:
    """What is published of each id, in numpy."""
    matrix = np.stack([table.column(name).to_numpy() for name in FEATURES], axis=1)
    logits = (matrix @ WEIGHTS).astype(np.float64)
    odds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    order = np.argsort(-odds, axis=1)[:, :2]
    return {
        id_: {
            "logits": logits[row].tolist(),
            "p1": odds[row, 1],
            "kind": "abç"[int(order[row, 0])],
            "best": [{"index": place, "score": odds[row, place]} for place in order[row].tolist()],
            "is_b": bool(odds[row, 1] >= 0.5),
            "root": float(np.sqrt(matrix[row, 0])) if matrix[row, 0] >= 0 else None,
        }
        for row, id_ in enumerate(table.column("id").to_pylist())
    }


def floats_of(row: dict[str, Any]) -> list[float]:
    """All floats of a published row."""
    return [*row["logits"], row["p1"], *(pair["score"] for pair in row["best"]), row["root"] or 0.0]


def others_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """All else of it."""
    return row["kind"], row["is_b"], row["root"] is None, [pair["index"] for pair in row["best"]]


def check(rows: list[dict[str, Any]], expected: dict[int, dict[str, Any]]) -> None:
    """See that each row is read once, and is as expected but for the last places of floats."""
    assert sorted(row["id"] for row in rows) == sorted(expected)
    wanted = [expected[row["id"]] for row in rows]
    np.testing.assert_allclose([floats_of(row) for row in rows], list(map(floats_of, wanted)), rtol=1e-4, atol=1e-6)
    assert [others_of(row) for row in rows] == [others_of(row) for row in wanted]


def test_mapped_columns_are_the_same_to_every_reader(spark: SparkSession, tmp_path: Path) -> None:
    """Lists, pairs, labels and nulls of a job are what numpy makes, through Arrow, a dataset, batches and Spark."""
    table = write_input(tmp_path)
    (tmp_path / "net.onnx").write_bytes(net())
    model = {"onnx": str(tmp_path / "net.onnx"), "inputs": {"X": list(FEATURES)}, "outputs": COLUMNS}
    job = read_config(str(write_job(tmp_path, tmp_path / "net.onnx", model=model)))
    run(RunRequest(config=job, run_id="r"))
    results = open_results(str(tmp_path / "out"))
    pairs = pa.struct([("index", pa.int64()), ("score", pa.float32())])
    assert results.schema.types == [
        pa.int64(), pa.list_(pa.float32(), 3), pa.float32(), pa.string(), pa.list_(pairs, 2), pa.bool_(), pa.float32(),
    ]  # fmt: skip
    expected = by_hand(table)
    for reading in (results.arrow(), results.dataset().to_table(), pa.Table.from_batches(results.batches())):
        check(reading.to_pylist(), expected)
    check([row.asDict(recursive=True) for row in results.spark(spark).collect()], expected)
    assert spark_of(results.schema.field("best").type) == "array<struct<index: bigint, score: float>>"
    with pytest.raises(Refused, match="CSV holds no lists, and logits, best is one"):
        results.export(str(tmp_path / "x.csv"))
