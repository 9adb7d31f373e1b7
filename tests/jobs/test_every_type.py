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

from etl.runs.local import LocalStorage
from etl.spec import read_spec
from etl.types import is_readable
from jobs.config.job import read_config
from jobs.errors import Refused
from jobs.history.runs import find_run, quarantined_rows
from jobs.results import open_results
from jobs.run import RunRequest, run
from scoring.bundles.create import BundleParts, create_bundle
from scoring.outputs.columns import OutputColumn
from tests.numbers_job import published_scores

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

ROWS = 400
WIDTH = 19
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
            {"name": "vector", "type": "float32[3]"},
            {"name": "ids", "type": "int64[3]", "on_missing": "reject"},
            {"name": "tags", "type": "list<string>", "on_missing": {"flag": "untagged"}},
            {"name": "place", "type": "struct<city: string, zip: int64>"},
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
                    "city_missing", "city_hot", "month_i", "hour_i", "vector", "ids", "untagged", "double_i",
                ],
            }
        ]
    },
}  # fmt: skip


def encoded(*types: pa.DataType) -> list[pa.DataType]:
    """The same types, as dictionaries."""
    return [pa.dictionary(pa.int32(), type_) for type_ in types]


def listed(*types: pa.DataType) -> list[pa.DataType]:
    """Lists of these types, and such of three values."""
    return [made for type_ in types for made in (pa.list_(type_), pa.large_list(type_), pa.list_(type_, 3))]


FLOATS = [pa.float64(), pa.float32(), pa.float16()]
INTEGERS = [pa.int64(), pa.int32(), pa.int16(), pa.int8(), pa.uint64(), pa.uint32(), pa.uint16(), pa.uint8()]
TEXTS = [pa.string(), pa.large_string(), pa.string_view()]
DECIMALS = [pa.decimal128(5, 2), pa.decimal256(5, 2)]
STAMPS = [pa.timestamp(unit, zone) for unit in ("us", "ns", "ms", "s") for zone in ("UTC", None, "America/New_York")]
PHYSICAL: dict[str, list[pa.DataType]] = {
    "flag": [pa.bool_(), *encoded(pa.bool_()), pa.null()],
    "small": [pa.int32(), pa.int16(), pa.int8(), pa.uint16(), pa.uint8(), *encoded(pa.int32(), pa.int8()), pa.null()],
    "big": [*INTEGERS, *encoded(pa.int64(), pa.uint64()), pa.null(), *DECIMALS],
    "single": [pa.float32(), pa.float16(), *encoded(pa.float32()), pa.null()],
    "double": [*FLOATS, *INTEGERS, *encoded(pa.float64(), pa.int16()), pa.null(), *DECIMALS],
    "city": [*TEXTS, *encoded(pa.string(), pa.large_string()), pa.dictionary(pa.int8(), pa.string()), pa.null()],
    "day": [pa.date32(), pa.date64(), *encoded(pa.date32()), pa.null()],
    "at": [*STAMPS, *encoded(pa.timestamp("us"), pa.timestamp("ns", "UTC")), pa.null()],
    "vector": [
        *(pa.list_(type_) for type_ in (*FLOATS, pa.null())),
        *(pa.large_list(type_) for type_ in (*FLOATS, pa.null())),
        *(pa.list_(type_, 3) for type_ in FLOATS),
        pa.null(),
    ],
    "ids": [*listed(*INTEGERS), pa.list_(pa.null()), pa.large_list(pa.null()), pa.null()],
    "tags": [*listed(*TEXTS), pa.list_(pa.null()), pa.large_list(pa.null()), pa.null()],
    "place": [
        pa.struct([("city", pa.string()), ("zip", pa.int64())]),
        pa.struct([("zip", pa.uint8()), ("more", pa.int8()), ("city", pa.large_string())]),
        pa.struct([("zip", pa.null()), ("city", pa.string())]),
        pa.null(),
    ],
}
"""Every physical type that a field of SPEC is read from."""
LAYOUTS = [
    {name: types[number % len(types)] for name, types in PHYSICAL.items()}
    for number in range(max(len(types) for types in PHYSICAL.values()))
]
"""So many files that each type occurs."""


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
            "big": maybe(int(rng.integers(0, 128))),
            "single": maybe(float(np.float16(rng.normal()))),
            "double": maybe(int(rng.integers(0, 128))),
            "city": maybe(str(rng.choice(CITIES))),
            "day": maybe(date(1999, 12, 28) + timedelta(days=int(rng.integers(0, 400)))),
            "at": maybe(start + timedelta(milliseconds=int(rng.integers(0, 10**10)))),
            "vector": maybe([float(np.float16(value)) for value in rng.normal(size=3)]),
            "ids": rng.integers(0, 128, 3).tolist(),
            "tags": maybe([maybe(str(tag)) for tag in rng.choice(CITIES, 3)]),
            "place": maybe({"city": maybe(str(rng.choice(CITIES))), "zip": maybe(int(rng.integers(0, 256)))}),
        }
        for number in range(ROWS)
    ]


def held_by(layout: dict[str, pa.DataType], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as a layout can hold them: a column of the null type has no values, and seconds have no fractions."""
    changed = []
    for row in rows:
        held = dict(row)
        for name, type_ in layout.items():
            if type_ in {pa.null(), pa.list_(pa.null()), pa.large_list(pa.null())}:
                held[name] = None
            elif name == "place" and row[name] is not None and type_.field("zip").type == pa.null():
                held[name] = {**row[name], "zip": None}
            elif type_ in STAMPS and type_.unit == "s" and row[name] is not None:
                held[name] = row[name].replace(microsecond=0)
        changed.append(held)
    return changed


def features_by_hand(row: dict[str, Any]) -> list[float]:
    """What SPEC means for one row, in plain Python."""
    numbers = [row[name] for name in ("flag", "small", "big", "single", "double")]
    imputed = [-1.0 if value is None else float(value) for value in numbers]
    hot = [1.0 if row["city"] == city else 0.0 for city in CITIES[:3]]
    month = 0.0 if row["day"] is None else float(row["day"].month)
    hour = -1.0 if row["at"] is None else float(row["at"].astimezone(UTC).hour)
    vector = row["vector"] or [math.nan] * 3
    untagged = float(row["tags"] is None)
    return [*imputed, float(row["city"] is None), *hot, month, hour, *vector, *row["ids"], untagged, imputed[4]]


def write_file(path: Path, layout: dict[str, pa.DataType], rows: list[dict[str, Any]]) -> None:
    """One Parquet file with row groups of uneven sizes, an empty one among them."""
    arrays = {"id": pa.array([row["id"] for row in rows], pa.int64())}
    for name, type_ in layout.items():
        values = [row[name] for row in rows]
        plain = type_.value_type if pa.types.is_dictionary(type_) else type_
        if pa.types.is_timestamp(plain):
            array = pa.array(values, pa.timestamp("us", "UTC")).cast(pa.timestamp(plain.unit, plain.tz))
        else:
            array = pa.array(values, plain)
        arrays[name] = array.dictionary_encode().cast(type_) if plain != type_ else array
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
    plain = {"id": pa.int64(), **LAYOUTS[0]}
    golden = pa.table({name: pa.array([row[name] for row in rows], type_) for name, type_ in plain.items()})
    parts = BundleParts(
        name="types",
        version="1",
        model=model.SerializeToString(),
        spec=read_spec(json.dumps(SPEC), "spec"),
        columns=(OutputColumn(column="p", tensor="p", type="float32", non_finite="keep"),),
        golden_rows=golden,
        references={},
        facts={},
    )
    create_bundle(LocalStorage(), str(tmp_path / "bundle"), parts)
    onnx.save(model, str(tmp_path / "model.onnx"))
    return tmp_path / "bundle"


UNIVERSE = [
    pa.null(), pa.bool_(), *INTEGERS, *FLOATS, *TEXTS, pa.date32(), pa.date64(), *STAMPS,
    pa.time32("ms"), pa.time64("us"), pa.duration("us"), pa.binary(), pa.large_binary(), pa.binary_view(),
    pa.binary(3), pa.decimal128(5, 2), pa.decimal256(5, 2), pa.struct([("a", pa.int8())]), pa.map_(pa.int8(), TEXTS[0]),
    *listed(*FLOATS, *INTEGERS, *TEXTS, *DECIMALS, pa.bool_()), pa.list_(pa.null()), pa.large_list(pa.null()),
    pa.struct([("zip", pa.int8()), ("city", pa.string())]), pa.struct([("zip", pa.int8())]),
]  # fmt: skip


def family(type_: pa.DataType) -> str:
    """What a type is, apart from the type of its values or its indices."""
    if pa.types.is_dictionary(type_):
        return "dictionary"
    if pa.types.is_struct(type_):
        return "struct"
    if pa.types.is_nested(type_):
        return f"{type(type_).__name__} of {type_.value_type}"
    return str(type_)


def test_the_table_has_every_type_that_is_readable() -> None:
    """What a contract accepts for a field, of all of Arrow's types, is among those that the test below scores."""
    contract = read_spec(json.dumps(SPEC), "spec").input
    assert [field.name for field in contract.fields] == list(PHYSICAL)
    for field in contract.fields:
        there = {family(type_) for type_ in PHYSICAL[field.name]}
        readable = {family(type_) for type_ in UNIVERSE if is_readable(type_, field.type)}
        if field.type.is_scalar:
            readable.add("dictionary")
        assert there == readable, field.name


@pytest.mark.servers
def test_every_type_scores_as_plain_onnxruntime_does(spark: SparkSession, tmp_path: Path, bundle: Path) -> None:
    """Files of every physical type, with nulls, empty row groups and no rows at all, score as computed by hand."""
    (tmp_path / "in").mkdir()
    rows: list[dict[str, Any]] = []
    for number, layout in enumerate(LAYOUTS):
        held = held_by(layout, raw_rows(number))
        rows += held
        write_file(tmp_path / "in" / f"{number:02}.parquet", layout, held)
        write_file(tmp_path / "in" / f"{number:02}-empty.parquet", layout, [])
    job = {
        "api_version": "batchscore/1",
        "name": "types",
        "input": {"files": str(tmp_path / "in")},
        "model": {"bundle": str(bundle)},
        "output": {"uri": str(tmp_path / "out"), "passthrough": ["id", "ids", "tags", "untagged"]},
        "scoring": {"batch_rows": 64},
        "budgets": {"contract": {"max_ratio": 0.2}},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    record = run(RunRequest(config=read_config(str(tmp_path / "job.yaml")), run_id="r"))
    # Only a vector of integers has no missing value.
    unscored = [row for row in rows if row["ids"] is None]
    rows = [row for row in rows if row["ids"] is not None]
    assert record.account.scored.rows == len(rows)
    assert record.reasons == {"contract/MISSING": len(unscored)}
    assert len(rows) + len(unscored) == len(LAYOUTS) * ROWS

    features = np.array([features_by_hand(row) for row in rows], dtype=np.float32)
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    scores = session.run(["p"], {"X": features})[0][:, 0]
    found = published_scores(tmp_path / "out" / "run_id=r")
    assert sorted(found) == [row["id"] for row in rows]
    assert 0 < np.isnan(scores).sum() < len(rows) / 2
    np.testing.assert_allclose([found[row["id"]] for row in rows], scores, rtol=1e-5, atol=1e-6)
    nested = {row["id"]: {name: row[name] for name in ("ids", "tags", "place")} for row in rows + unscored}
    published = open_results(str(tmp_path / "out")).arrow().to_pylist()
    assert [(row["ids"], row["tags"]) for row in published] == [
        (nested[row["id"]]["ids"], nested[row["id"]]["tags"]) for row in published
    ]
    assert all(row["untagged"] == (row["tags"] is None) for row in published)
    set_aside = quarantined_rows(find_run(str(tmp_path / "job.yaml"), "r")).to_pylist()
    names = [row["id"] for row in unscored]
    assert [row["preview"]["tags"] for row in set_aside] == [nested[name]["tags"] for name in names]
    assert [row["preview"]["place"] for row in set_aside] == [nested[name]["place"] for name in names]


def test_a_wide_unsigned_id_is_published_unchanged(spark: SparkSession, tmp_path: Path, bundle: Path) -> None:
    """Hashes of 64 bits pass through to every reader as they are, and one too wide for an int64 field is set aside."""
    layout = {**LAYOUTS[0], "big": pa.uint64()}
    rows = raw_rows(5)[:20]
    rows[3]["big"] = 2**63
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.parquet"
    write_file(path, layout, rows)
    keys = [2**64 - 1 - number if number % 2 else number for number in range(20)]
    pq.write_table(pq.read_table(path).append_column("key", pa.array(keys, pa.uint64())), path)
    job = {
        "api_version": "batchscore/1",
        "name": "types",
        "input": {"files": str(tmp_path / "in")},
        "model": {"bundle": str(bundle)},
        "output": {"uri": str(tmp_path / "out"), "passthrough": ["key"]},
        "budgets": {"contract": {"max_rows": 1}},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    record = run(RunRequest(config=read_config(str(tmp_path / "job.yaml")), run_id="r"))
    assert record.account.quarantined.rows == 1
    expected = sorted(key for number, key in enumerate(keys) if number != 3)
    results = open_results(str(tmp_path / "out"))
    assert sorted(results.arrow().column("key").to_pylist()) == expected
    assert sorted(int(row["key"]) for row in results.spark(spark).collect()) == expected


def test_a_struct_is_not_passed_through(tmp_path: Path, bundle: Path) -> None:
    """A job that would publish a struct is refused before any work, with what to do."""
    (tmp_path / "in").mkdir()
    write_file(tmp_path / "in" / "a.parquet", LAYOUTS[0], raw_rows(1)[:5])
    job = {
        "api_version": "batchscore/1",
        "name": "types",
        "input": {"files": str(tmp_path / "in")},
        "model": {"bundle": str(bundle)},
        "output": {"uri": str(tmp_path / "out"), "passthrough": ["place"]},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    with pytest.raises(Refused, match="column 'place' is a struct, which cannot be passed through"):
        run(RunRequest(config=read_config(str(tmp_path / "job.yaml")), run_id="r"))
