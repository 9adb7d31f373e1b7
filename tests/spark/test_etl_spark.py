"""The verbs of specs over Spark DataFrames: what they give is what numpy gives, whatever the session's settings."""

from __future__ import annotations

import contextlib
import functools
import json
from collections import Counter
from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import etl
from etl.errors import ContractError, EtlError, InputMissing, SpecError, TransformError
from etl.learning.fitting import fit as fit_here
from etl.learning.pieces import Piece
from etl.spark import fit, prepare, transform, transforming
from etl.spark.batches import check_code
from etl.spark.schema import arrow_schema, as_declared, spark_schema
from etl.spec import read_spec
from tests.etl.nasty import FLOATS, INF, INSTANTS, NAN, TEXTS, bits, same_floats

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from etl.spec import Spec


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
            "struct<id:bigint,s:string,extra:binary,f:array<double>,other:float,i:array<bigint>,"
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
            assert (row["f"], row["other"], row["i"]) == (None, None, None)
            assert row["rejection"]["code"] == "OUT_OF_RANGE"
            assert row["rejection"]["pointer"] == "/input/fields/2/range"
            continue
        features, rounded, text = wanted[key]
        assert same_floats(list(row["f"]), features)
        assert bits(np.array([row["other"]])) == bits(np.array([rounded]))
        assert (row["i"], row["s"], row["rejection"]) == ([key], text, None)
    assert {key for key, row in found.items() if row["rejection"]} == rejected


def test_tensors_of_every_kind_are_columns(spark: SparkSession, tmp_path: Path) -> None:
    """Arrays in arrays become bytes, halves and rows of their own length, in types that Spark has, without padding."""
    ragged = {"on_ragged": "pad", "buckets": [4], "mask": {"model_input": "m"}}
    fields = {"id": "int64", "image": "uint8[4]", "x": "float16[2]", "ids": "list<int64>"}
    tensors = [
        {
            "tensor": "image",
            "dtype": "uint8",
            "from": ["image"],
            "shape": [-1, 1, 2, 2],
            "bind": {"model_input": "pixels"},
        },
        {"tensor": "half", "dtype": "float16", "from": ["x"]},
        {"tensor": "brain", "dtype": "bfloat16", "from": ["x"]},
        {"tensor": "wide", "dtype": "uint32", "from": ["id"], "shape": [-1]},
        {"tensor": "tokens", "dtype": "int32", "from": ["ids"], "ragged": ragged},
    ]
    document = {
        "format": "scorespec/1",
        "spec_id": "kinds",
        "input": {"fields": [{"name": name, "type": kind} for name, kind in fields.items()]},
        "outputs": {"tensors": tensors, "passthrough": ["image", "x"]},
    }
    images = pa.array([[[0, 255], [7, 8]], [[1, 2], [3, 4]]], pa.list_(pa.list_(pa.int32())))
    columns = {"id": [1, 2], "image": images, "x": [[0.5, 1.01], [-2.0, 70000.0]], "ids": [[5, 6, 7], []]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    made = transform(spark.read.parquet(str(tmp_path)), read_spec(json.dumps(document), "spec.json"))
    assert made.schema.simpleString() == (
        "struct<image:array<smallint>,x:array<float>,pixels:array<smallint>,half:array<float>,brain:array<float>,"
        "wide:bigint,tokens:array<int>>"
    )
    found = sorted((row.asDict() for row in made.collect()), key=lambda row: row["wide"])
    assert [row["image"] for row in found] == [row["pixels"] for row in found] == [[0, 255, 7, 8], [1, 2, 3, 4]]
    half = float(np.float16(1.01))
    assert [row["half"] for row in found] == [row["x"] for row in found] == [[0.5, half], [-2.0, INF]]
    assert [row["brain"] for row in found] == [[0.5, 1.0078125], [-2.0, INF]]
    assert [row["tokens"] for row in found] == [[5, 6, 7], []]


def test_a_rejected_row_fails_a_query_that_did_not_ask_for_it(
    rows: DataFrame, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default a task that meets a rejected row fails under the rule's name, and nothing is silently dropped."""
    monkeypatch.setattr(transforming, "map_batches", lambda _df, _names, run, **_: run)
    task: Any = transform(rows, spec_of(), {"words": WORDS})
    with pytest.raises(TransformError, match=r"/input/fields/2/range: n is above 90\.0 \(OUT_OF_RANGE\)"):
        list(task(table.to_batches()))


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


STEPS = [
    {"id": "z", "op": "standardize", "in": ["x"], "out": ["x_z"]},
    {"id": "m", "op": "impute", "in": ["x"], "out": ["x_i"], "params": {"strategy": "median"}},
    {"id": "b", "op": "standardize", "in": ["x_i"], "out": ["x_iz"]},
    {"id": "s", "op": "string_index", "in": ["s"], "out": ["s_id"]},
]
RECIPE = {
    "format": "scorespec/1",
    "spec_id": "fit",
    "input": {
        "fields": [
            {"name": "x", "type": "float64"},
            {"name": "s", "type": "string", "on_missing": "reject"},
            {"name": "k", "type": "int64"},
        ]
    },
    "steps": STEPS,
    "outputs": {"tensors": [{"tensor": "x", "from": ["x_z", "x_i", "x_iz"]}]},
    "expectations": [{"id": "small", "row": {"cmp": ["k", "<", 50]}, "severity": "quarantine"}],
}
FIT_ROWS = 90_000


@pytest.fixture(scope="module")
def training(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[DataFrame, pa.Table]:
    """More different numbers than one pass can tell the median of, in two files of several row groups."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=FIT_ROWS) * 10.0 ** rng.integers(-300, 300, FIT_ROWS)
    words = np.array(["a", "b", "ß", "c"])[rng.integers(0, 4, FIT_ROWS)]
    table = pa.table(
        {
            "x": pa.array(x, mask=rng.random(FIT_ROWS) < 0.1),
            "s": pa.array(words, mask=rng.random(FIT_ROWS) < 0.1),
            "k": rng.integers(0, 100, FIT_ROWS),
            "unread": pa.array([None] * FIT_ROWS, pa.binary()),
        }
    )
    folder = tmp_path_factory.mktemp("training")
    for part in range(2):
        pq.write_table(table.slice(part * 30_000, 30_000 + part * 30_000), folder / f"{part}.parquet")
    return spark.read.parquet(str(folder)), table


def state(spec: Spec, step: str) -> dict[str, Any]:
    """The state of a step as JSON has it."""
    return next(part["state"] for part in spec.plain()["steps"] if part["id"] == step)


def test_a_fit_in_spark_tasks_is_the_fit_of_one_machine(training: tuple[DataFrame, pa.Table], tmp_path: Path) -> None:
    """A DataFrame gives the state that numpy computes, by several passes of Spark tasks, and the frozen files give the
    same spec to the byte on one machine with one thread and with eight."""  # noqa: D205, D209  one sentence
    df, table = training
    recipe = read_spec(json.dumps(RECIPE), "recipe", fitted=False)
    fitted = fit(df, recipe, scratch=str(tmp_path))
    rows = table.filter(table.column("s").is_valid())
    values = np.sort(rows.column("x").drop_null().to_numpy())
    assert state(fitted, "m") == {"value": values[(len(values) - 1) // 2], "n": len(values)}
    fractions = [Fraction(value) for value in values.tolist()]
    assert state(fitted, "z")["mean"] == float(sum(fractions) / len(fractions))
    counts = Counter(rows.column("s").to_pylist()).most_common()
    assert list(zip(state(fitted, "s")["vocab"], state(fitted, "s")["counts"], strict=True)) == counts
    assert fitted.provenance is not None
    assert (fitted.provenance.rows, fitted.provenance.rejected) == (FIT_ROWS, FIT_ROWS - rows.num_rows)
    assert fitted.provenance.passes >= 4
    broken = np.count_nonzero(rows.column("k").to_numpy() >= 50)
    assert fitted.provenance.notes["expectations"].startswith(f"expectation 'small': {broken:,} of {rows.num_rows:,} ")
    (folder,) = tmp_path.iterdir()
    assert [path.name for path in folder.iterdir()] == ["rows"], "partial states are gone"
    pieces = [
        Piece(f"{path} {group}", functools.partial(read_group, path, group))
        for path in sorted((folder / "rows").glob("*.parquet"))
        for group in range(pq.ParquetFile(path).num_row_groups)
    ]
    assert len(pieces) > 1
    for workers in (1, 8):
        assert fit_here(recipe, pieces, workers=workers).to_bytes() == fitted.to_bytes()


def read_group(path: Path, group: int) -> list[pa.RecordBatch]:
    """The batches of a row group."""
    return pq.ParquetFile(path).read_row_group(group).combine_chunks().to_batches()


def test_the_fit_of_a_dataframe_runs_its_relational_steps_first(training: tuple[DataFrame, pa.Table]) -> None:
    """`etl.fit` takes a DataFrame, and what a step learns of a group's mean is what it learns of it in memory; and it
    counts the rows that its steps on the table left out."""  # noqa: D205, D209  one sentence
    df, table = training
    some = {"id": "f", "op": "filter", "in": [], "out": [], "params": {"keep": {"not": {"is_null": "x"}}}}
    group = {
        "id": "g",
        "op": "group_aggregate",
        "in": ["x"],
        "out": ["x_k"],
        "params": {"keys": ["k"], "aggregates": ["max"], "leak": "acknowledged"},
    }
    step = {"id": "r", "op": "minmax", "in": ["x_k"], "out": ["x_kz"]}
    outputs = {"tensors": [{"tensor": "x", "from": ["x_kz"]}]}
    document = {**RECIPE, "relational": [some, group], "steps": [step], "outputs": outputs}
    recipe = read_spec(json.dumps(document), "recipe", fitted=False)
    fitted, wanted = (etl.fit(recipe, data) for data in (df, table))
    assert state(fitted, "r") == state(wanted, "r")
    assert fitted.reference == wanted.reference
    assert fitted.golden
    left_out = table.column("x").null_count
    note = f"{FIT_ROWS:,} rows, of which {left_out:,} filtered and 0 deduplicated"
    for provenance in (fitted.provenance, wanted.provenance):
        assert provenance is not None
        assert provenance.notes["table"] == note
        assert provenance.rows == FIT_ROWS - left_out


def test_the_error_of_a_task_is_the_error_of_the_fit(training: tuple[DataFrame, pa.Table]) -> None:
    """What the data breaks on a worker is raised by the driver under its own class, and a DataFrame that lacks a column
    before any task."""  # noqa: D205, D209  one sentence
    fields = [{"name": "s", "type": "string", "on_missing": "fail"}, *RECIPE["input"]["fields"][::2]]  # type: ignore[index]
    recipe = read_spec(json.dumps({**RECIPE, "input": {"fields": fields}}), "recipe", fitted=False)
    with pytest.raises(ContractError, match=r"row group 0: column 's' has no value in [\d,]+ rows of the batch"):
        fit(training[0], recipe)
    with pytest.raises(InputMissing, match="UNRESOLVED_COLUMN"):
        fit(training[0].drop("x"), recipe)


def test_what_is_no_dataframe_is_refused() -> None:
    """Each verb refuses a table in memory and names the verb that takes it; Spark is not asked."""
    table: Any = pa.table({"x": [1.0]})
    spec = read_spec(json.dumps(SPEC), "spec")
    verbs: dict[str, Any] = {"etl.fit": fit, "etl.relational.prepare": prepare, "Spec.transform": transform}
    for name, verb in verbs.items():
        message = rf"^takes a Spark DataFrame, found pyarrow's Table; for a table in memory there is {name}$"
        with pytest.raises(TypeError, match=message):
            verb(table, spec)
