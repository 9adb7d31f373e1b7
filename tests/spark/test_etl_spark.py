"""The verbs of specs over Spark DataFrames: what they give is what numpy gives, whatever the session's settings."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.errors import PySparkException

from etl.errors import ContractError, EtlError, SpecError, TransformError
from etl.spark import transform
from etl.spark.batches import check_code
from etl.spark.freeze import cause_of
from etl.spark.schema import arrow_schema, as_declared, spark_schema
from etl.spec import read_spec
from tests.etl.nasty import FLOATS, INSTANTS, NAN, TEXTS, bits, same_floats

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame, SparkSession

ROWS = 120
SPEC: dict[str, Any] = {
    "format": "scorespec/1",
    "spec_id": "spark",
    "input": {
        "fields": [
            {"name": "id", "type": "int64", "role": "id", "nullable": False},
            {"name": "x`.1", "type": "float64"},
            {"name": "n", "type": "int32", "range": {"max": 90}},
            {"name": "s", "type": "string", "allowed": ["a", "A", "ß"], "on_invalid": "as_missing"},
            {"name": "t", "type": "timestamp"},
        ]
    },
    "relational": [
        {
            "id": "look",
            "op": "lookup_join",
            "in": ["s"],
            "out": ["w"],
            "params": {
                "reference": "words",
                "keys": [{"name": "s", "type": "string"}],
                "columns": [{"name": "w", "type": "float64"}],
            },
        },
        {"id": "few", "op": "filter", "in": [], "out": [], "params": {"keep": {"cmp": ["id", "<", 110]}}},
    ],
    "steps": [
        {"id": "c", "op": "clip", "in": ["x`.1"], "out": ["xc"], "params": {"lower": -1e10, "upper": 1e10}},
        {"id": "h", "op": "date_part", "in": ["t"], "out": ["hour"], "params": {"part": "hour"}},
    ],
    "outputs": {
        "tensors": [
            {"tensor": "f", "from": ["xc", "w", "hour"], "dtype": "float64"},
            {"tensor": "g", "from": ["xc"], "shape": [-1], "bind": {"model_input": "other"}},
            {"tensor": "i", "from": ["id"], "dtype": "int64", "shape": [-1, 1]},
        ],
        "passthrough": ["id", "s"],
    },
}
WORDS = pa.table({"s": ["a", "ß"], "w": [0.1, 0.2], "unused": [1, 2]})


def spec_of(**changes: Any) -> Any:
    """The spec with other sections."""
    return read_spec(json.dumps({**SPEC, **changes}), "spec.json")


def column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Values in turn, as many as there are rows."""
    return pa.array([values[n % len(values)] for n in range(ROWS)], kind)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Nasty rows; of every number of rows one is above the range."""
    texts = [text for text in TEXTS if text is None or len(text) < 9]
    instants = [None, *(when for when in INSTANTS if when is not None and when.year >= 1900)]
    return pa.table(
        {
            "id": pa.array(range(ROWS)),
            "x`.1": column(FLOATS, pa.float64()),
            "n": column([1, 2, None, 90, 91], pa.int32()),
            "s": column(["a", *texts], pa.string()),
            "t": column(instants, pa.timestamp("us", "UTC")),
            "extra": column([b"", None], pa.binary()),
        }
    )


@pytest.fixture(scope="module")
def rows(spark: SparkSession, table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    """The rows as Spark reads them."""
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(table, path, row_group_size=17)
    return spark.read.parquet(str(path))


@contextlib.contextmanager
def settings(spark: SparkSession, **values: str) -> Iterator[None]:
    """Other settings of the session for a while."""
    names = {"zone": "spark.sql.session.timeZone", "ansi": "spark.sql.ansi.enabled"}
    before = {names[key]: spark.conf.get(names[key]) for key in values}
    try:
        for key, value in values.items():
            spark.conf.set(names[key], value)
        yield
    finally:
        for name, old in before.items():
            spark.conf.set(name, str(old))


def expected(table: pa.Table) -> dict[int, tuple[list[float], float, str | None]]:
    """Tensors and text of each row that is neither filtered nor rejected, in Python."""
    found = {}
    for row in table.to_pylist():
        if row["id"] >= 110 or (row["n"] or 0) > 90:
            continue
        x = NAN if row["x`.1"] is None else min(max(row["x`.1"], -1e10), 1e10)
        x = NAN if row["x`.1"] != row["x`.1"] else x
        text = row["s"] if row["s"] in {"a", "A", "ß"} else None
        hour = NAN if row["t"] is None else float(row["t"].astimezone(UTC).hour)
        with np.errstate(over="ignore"):
            found[row["id"]] = ([x, {"a": 0.1, "ß": 0.2}.get(str(text), NAN), hour], float(np.float32(x)), text)
    return found


@pytest.mark.parametrize(("zone", "ansi"), [("UTC", "true"), ("America/New_York", "false")])
def test_a_transform_is_what_python_makes_of_the_rows(
    spark: SparkSession, rows: DataFrame, table: pa.Table, zone: str, ansi: str
) -> None:
    """Each kept row has the features that plain Python computes, in any session time zone and ANSI mode; a rejected one
    stays with nulls and its reason, and a filtered one is gone."""  # noqa: D205, D209  one sentence
    with settings(spark, zone=zone, ansi=ansi):
        made = transform(rows, spec_of(), {"words": WORDS}, passthrough=["id", "s", "extra"], on_rejected="keep")
        assert made.schema.simpleString() == (
            "struct<id:bigint,s:string,extra:binary,f:array<double>,g:float,i:array<bigint>,"
            "rejection:struct<code:string,pointer:string,column:string,message:string>>"
        )
        found = {row["id"]: row for row in made.collect()}
    wanted = expected(table)
    rejected = {row["id"] for row in table.to_pylist() if row["n"] == 91}
    assert max(rejected) > 110, "a row that the contract rejects stays so, whatever a filter says"
    assert found.keys() == wanted.keys() | rejected
    for key, row in found.items():
        assert row["extra"] == table.column("extra")[key].as_py()
        if key in rejected:
            assert (row["f"], row["g"], row["i"]) == (None, None, None)
            assert row["rejection"]["code"] == "OUT_OF_RANGE"
            assert row["rejection"]["pointer"] == "/input/fields/2/range"
            continue
        features, rounded, text = wanted[key]
        assert same_floats(list(row["f"]), features)
        assert bits(np.array([row["g"]])) == bits(np.array([rounded]))
        assert (row["i"], row["s"], row["rejection"]) == ([key], text, None)
    assert {key for key, row in found.items() if row["rejection"]} == rejected


def test_a_rejected_row_fails_a_query_that_did_not_ask_for_it(rows: DataFrame) -> None:
    """By default a rejected row fails the query under the rule's name, and nothing is silently dropped."""
    with pytest.raises(PySparkException) as caught:
        transform(rows, spec_of(), {"words": WORDS}).collect()
    said = cause_of(str(caught.value))
    assert "etl.errors.TransformError: " in said
    assert "/input/fields/2/range: n is above 90" in said


def test_what_cannot_be_transformed_is_refused_before_any_task(rows: DataFrame) -> None:
    """A missing column, one of another type, an unknown passthrough, a name that comes twice, a type that cannot be
    handed through and a missing reference are refused by the driver."""  # noqa: D205, D209  one sentence
    words = {"words": WORDS}
    with pytest.raises(ContractError, match=r"^the DataFrame: .*column 't' is not there"):
        transform(rows.drop("t"), spec_of(), words)
    with pytest.raises(ContractError, match="column 'n' has type string, the contract says int32"):
        transform(rows.withColumn("n", rows["n"].cast("string")), spec_of(), words)
    with pytest.raises(SpecError, match=r"passthrough: column 'idd' is not there\. Did you mean \"id\""):
        transform(rows, spec_of(), words, passthrough=["idd"])
    with pytest.raises(SpecError, match="two columns would be called f;"):
        transform(rows.withColumnRenamed("extra", "F"), spec_of(), words, passthrough=["F"])
    with pytest.raises(SpecError, match="reference table 'words' is not given"):
        transform(rows, spec_of())
    with pytest.raises(ValueError, match="on_rejected is 'fail' or 'keep', found 'drop'"):
        transform(rows, spec_of(), words, on_rejected=cast("Any", "drop"))
    wait = rows.selectExpr("*", "make_dt_interval(1) as wait")
    with pytest.raises(SpecError, match="passthrough: column 'wait' is interval day to second"):
        transform(wait, spec_of(), words, passthrough=["wait"])


def test_what_a_task_gives_is_cast_or_its_column_named() -> None:
    """A column of another type is cast where its values have equals in the declared one; else the error has its name
    and no value."""  # noqa: D205, D209  one sentence
    declared = pa.schema([("a", pa.int8()), ("b", pa.timestamp("us", "UTC"))])
    instant = pa.array([datetime(2024, 1, 1, tzinfo=UTC)], pa.timestamp("ms", "UTC"))
    batch = as_declared({"b": instant, "a": pa.array([7], pa.int64())}, declared)
    assert batch.schema == declared
    assert batch.to_pylist() == [{"a": 7, "b": datetime(2024, 1, 1, tzinfo=UTC)}]
    with pytest.raises(TransformError) as caught:
        as_declared({"b": instant, "a": pa.array([300], pa.int64())}, declared)
    assert str(caught.value) == "column 'a' is int64; not all of it can be given as int8."
    for array in (pa.array(["x"]), pa.array([[1]])):
        with pytest.raises(TransformError, match=r"^column 'a' is "):
            as_declared({"b": instant, "a": array}, declared)
    with pytest.raises(TransformError, match="column 'f' is double; not all of it can be given as float"):
        as_declared({"f": pa.array([0.1])}, pa.schema([("f", pa.float32())]))
    with pytest.raises(TransformError, match="column 'b' is declared and was not made; there is: a"):
        as_declared({"a": pa.array([1], pa.int8())}, declared)


def test_types_cross_the_border_and_come_back(spark: SparkSession) -> None:
    """Every type that a spec's columns have has one of Spark's which holds its values, and comes back as that."""
    kinds = [pa.bool_(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.date32()]
    kinds += [pa.timestamp("us", "UTC"), pa.list_(pa.float32()), pa.struct([("a b", pa.list_(pa.string()))])]
    schema = pa.schema([pa.field(str(number), kind) for number, kind in enumerate(kinds)])
    assert arrow_schema(spark_schema(schema)) == schema
    assert spark_schema(pa.schema([("u", pa.uint64())])).simpleString() == "struct<u:decimal(20,0)>"
    with pytest.raises(TypeError, match="Spark has no type for"):
        spark_schema(pa.schema([("d", pa.duration("s"))]))


def test_a_worker_with_other_code_refuses_to_work() -> None:
    """A task whose code is not the driver's says both digests."""
    with pytest.raises(EtlError, match="the driver runs 0123456789abcdef"):
        check_code("0123456789abcdef")
