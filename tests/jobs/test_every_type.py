"""Scores over every Arrow type that the contract allows equal plain onnxruntime on features computed by hand."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from etl.local import LocalStorage
from etl.spec import read_spec
from jobs.config import read_config
from jobs.run import RunRequest, run
from scoring.create import BundleParts, create_bundle
from scoring.outputs import OutputColumn
from tests.numbers_job import published_scores

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

ROWS = 400
WIDTH = 15
CITIES = ["Århus", "Łódź", "東京", "", "x" * 300]


def constant(name: str, value: float) -> dict[str, Any]:
    """A step that fills a column's missing values."""
    params = {"strategy": "constant", "value": value}
    return {"id": f"{name}_i", "op": "impute", "in": [name], "out": [f"{name}_i"], "params": params}


SPEC: dict[str, Any] = {
    "format": "scorespec/1",
    "spec_id": "types",
    "input": {
        "fields": [
            {"name": "flag", "type": "bool"},
            {"name": "small", "type": "int32"},
            {"name": "big", "type": "int64"},
            {"name": "single", "type": "float32"},
            {"name": "double", "type": "float64"},
            {"name": "city", "type": "string"},
            {"name": "day", "type": "date"},
            {"name": "at", "type": "timestamp"},
            {"name": "vector", "type": "float32[3]", "nullable": False},
        ]
    },
    "steps": [
        *(
            constant(name, -1.0) for name in ("flag", "small", "big", "single", "double")
        ),
        {"id": "miss", "op": "missing_flag", "in": ["city"], "out": ["city_missing"]},
        {
            "id": "hot", "op": "one_hot", "in": ["city"], "out": ["city_hot"],
            "state": {"vocab": CITIES[:3], "counts": [3, 2, 1]},
        },
        {"id": "month", "op": "date_part", "in": ["day"], "out": ["month"], "params": {"part": "month"}},
        constant("month", 0.0),
        {"id": "hour", "op": "date_part", "in": ["at"], "out": ["hour"], "params": {"part": "hour"}},
        constant("hour", -1.0),
    ],
    "outputs": {
        "tensors": [
            {
                "tensor": "X",
                "from": [
                    "flag_i", "small_i", "big_i", "single_i", "double_i",
                    "city_missing", "city_hot", "month_i", "hour_i", "vector", "double_i",
                ],
            }
        ]
    },
}  # fmt: skip
LAYOUTS: dict[str, dict[str, pa.DataType]] = {
    "plain": {
        "flag": pa.bool_(), "small": pa.int32(), "big": pa.int64(), "single": pa.float32(), "double": pa.float64(),
        "city": pa.string(), "day": pa.date32(), "at": pa.timestamp("us", "UTC"), "vector": pa.list_(pa.float32()),
    },
    "narrow": {
        "flag": pa.bool_(), "small": pa.int8(), "big": pa.int16(), "single": pa.float32(), "double": pa.float32(),
        "city": pa.dictionary(pa.int32(), pa.string()), "day": pa.date32(), "at": pa.timestamp("ms"),
        "vector": pa.list_(pa.float32(), 3),
    },
    "large": {
        "flag": pa.bool_(), "small": pa.uint16(), "big": pa.uint32(), "single": pa.float32(), "double": pa.int32(),
        "city": pa.large_string(), "day": pa.date64(), "at": pa.timestamp("ns", "America/New_York"),
        "vector": pa.large_list(pa.float32()),
    },
    "nanoseconds": {
        "flag": pa.bool_(), "small": pa.int32(), "big": pa.int64(), "single": pa.float32(), "double": pa.float64(),
        "city": pa.dictionary(pa.int8(), pa.large_string()), "day": pa.date32(), "at": pa.timestamp("ns"),
        "vector": pa.list_(pa.float32()),
    },
}  # fmt: skip


def raw_rows(seed: int) -> list[dict[str, Any]]:
    """Python values with nulls in every column that may have them, small enough for the narrowest layout."""
    rng = np.random.default_rng(seed)

    def maybe(value: Any) -> Any:
        return None if rng.random() < 0.15 else value

    start = datetime(1969, 12, 31, 22, tzinfo=UTC)
    return [
        {
            "id": seed * ROWS + number,
            "flag": maybe(bool(rng.integers(2))),
            "small": maybe(int(rng.integers(0, 100))),
            "big": maybe(int(rng.integers(0, 30_000))),
            "single": maybe(float(np.float32(rng.normal()))),
            "double": maybe(int(rng.integers(0, 1000))),
            "city": maybe(str(rng.choice(CITIES))),
            "day": maybe(date(1999, 12, 28) + timedelta(days=int(rng.integers(0, 400)))),
            "at": maybe(start + timedelta(milliseconds=int(rng.integers(0, 10**10)))),
            "vector": [float(np.float32(value)) for value in rng.normal(size=3)],
        }
        for number in range(ROWS)
    ]


def features_by_hand(row: dict[str, Any]) -> list[float]:
    """What SPEC means for one row, in plain Python."""
    numbers = [row[name] for name in ("flag", "small", "big", "single", "double")]
    imputed = [-1.0 if value is None else float(value) for value in numbers]
    hot = [1.0 if row["city"] == city else 0.0 for city in CITIES[:3]]
    month = 0.0 if row["day"] is None else float(row["day"].month)
    hour = -1.0 if row["at"] is None else float(row["at"].astimezone(UTC).hour)
    return [*imputed, float(row["city"] is None), *hot, month, hour, *row["vector"], imputed[4]]


def write_file(path: Path, layout: dict[str, pa.DataType], rows: list[dict[str, Any]]) -> None:
    """One Parquet file with row groups of uneven sizes, an empty one among them."""
    arrays = {"id": pa.array([row["id"] for row in rows], pa.int64())}
    for name, type_ in layout.items():
        values = [row[name] for row in rows]
        if pa.types.is_timestamp(type_):
            arrays[name] = pa.array(values, pa.timestamp("us", "UTC")).cast(
                pa.timestamp(type_.unit, type_.tz), safe=False
            )
        elif pa.types.is_dictionary(type_):
            arrays[name] = pa.array(values, type_.value_type).dictionary_encode().cast(type_)
        else:
            arrays[name] = pa.array(values, type_)
    table = pa.table(arrays)
    with pq.ParquetWriter(path, table.schema) as writer:
        for start, stop in ((0, 7), (7, 7), (7, 250), (250, len(rows))):
            writer.write_table(table.slice(start, max(0, min(stop, len(rows)) - start)))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of SPEC in front of a two-layer model."""
    rng = np.random.default_rng(0)
    weights = {"A": rng.normal(size=(WIDTH, 8)) / 100, "B": rng.normal(size=(8, 1))}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["X", "A"], ["h"]),
            helper.make_node("Tanh", ["h"], ["t"]),
            helper.make_node("MatMul", ["t", "B"], ["p"]),
        ],
        "net",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, WIDTH])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    rows = raw_rows(99)[:40]
    plain = {"id": pa.int64(), **LAYOUTS["plain"]}
    golden = pa.table({name: pa.array([row[name] for row in rows], type_) for name, type_ in plain.items()})
    parts = BundleParts(
        name="types",
        version="1",
        model=model.SerializeToString(),
        spec=read_spec(json.dumps(SPEC), "spec"),
        columns=(OutputColumn(column="p", tensor="p", type="float32"),),
        golden_rows=golden,
        references={},
        facts={},
    )
    create_bundle(LocalStorage(), str(tmp_path / "bundle"), parts)
    onnx.save(model, str(tmp_path / "model.onnx"))
    return tmp_path / "bundle"


def test_every_type_scores_as_plain_onnxruntime_does(spark: SparkSession, tmp_path: Path, bundle: Path) -> None:
    """Files of four physical layouts, with nulls, empty row groups and no rows at all, score as computed by hand."""
    (tmp_path / "in").mkdir()
    rows: list[dict[str, Any]] = []
    for number, layout in enumerate(LAYOUTS.values()):
        rows += raw_rows(number)
        write_file(tmp_path / "in" / f"{number}.parquet", layout, raw_rows(number))
        write_file(tmp_path / "in" / f"{number}-empty.parquet", layout, [])
    job = {
        "api_version": "batchscore/1",
        "name": "types",
        "input": {"files": str(tmp_path / "in")},
        "model": {"bundle": str(bundle)},
        "output": {"uri": str(tmp_path / "out"), "passthrough": ["id"]},
        "scoring": {"batch_rows": 64},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    record = run(RunRequest(config=read_config(str(tmp_path / "job.yaml")), run_id="r"))
    assert record.account.scored.rows == len(rows) == 4 * ROWS

    features = np.array([features_by_hand(row) for row in rows], dtype=np.float32)
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    scores = session.run(["p"], {"X": features})[0][:, 0]
    found = published_scores(tmp_path / "out" / "run_id=r")
    expected = {row["id"]: float(score) for row, score in zip(rows, scores, strict=True)}
    assert found.keys() == expected.keys()
    assert all(math.isclose(found[key], expected[key], rel_tol=1e-5, abs_tol=1e-6) for key in expected)
