"""Relational steps in Spark give the rows that they give in memory, to the bit, whatever the session's settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.arrivals import REJECTED
from etl.errors import ContractError, SpecError
from etl.pipeline import Pipeline
from etl.relational import Counts, TablePart, prepare
from etl.runs.storage import storage_for
from etl.spark import preparing as in_spark
from etl.spark import transform
from etl.spark.reading import Cuts, read_files
from etl.spec import read_spec
from tests.etl.nasty import bits, document
from tests.etl.test_relational import FIELDS, LEAK, POINT, REFERENCE, look_up, rows_of, step_of, table_of
from tests.spark.frames import arrow_of
from tests.spark.test_etl_spark import settings

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from etl.spec import Spec


STEPS = [
    step_of("filter", [], [], keep={"not": {"cmp": ["n", "==", 0]}}),
    look_up(on_no_match="reject"),
    step_of("dedupe", [], [], keys=["k", "k2", "n"], **POINT),
    step_of("window_lag", ["x", "s", "t"], ["x_1", "s_1", "t_1"], partition_by=["k"], offset=2, **POINT),
    step_of(
        "group_aggregate",
        ["x", "x", "s"],
        ["gs", "gd", "gl"],
        keys=["region", "b"],
        aggregates=["sum", "std", "last"],
        order_by=["t"],
        **LEAK,
    ),
    step_of(
        "window_rolling",
        ["x_1", "d"],
        ["rm", "rc"],
        partition_by=["k"],
        aggregates=["mean", "count"],
        window={"seconds": 9},
        **POINT,
    ),
]
SPEC = json.dumps(
    document(
        FIELDS,
        [{"id": "c", "op": "clip", "in": ["rm"], "out": ["rc_c"], "params": {"upper": 1e6}}],
        relational=[{**step, "id": f"r{n}"} for n, step in enumerate(STEPS)],
        columns=["rc_c", "rc"],
        dtype="float64",
    )
)
REFERENCES = {"ref": REFERENCE.set_column(2, "limit", pa.array([9, 1]))}
ROWS = 900


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Rows of nasty values that Spark can hold, with a column of no contract."""
    rows = [row for row in rows_of(21, ROWS) if row["d"] is None or row["d"].year >= 1900]
    return table_of(rows).append_column("more", pa.array([[str(n)] for n in range(len(rows))]))


@pytest.fixture(scope="module")
def frame(spark: SparkSession, table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    """The same rows as Spark reads them, in several partitions."""
    folder = tmp_path_factory.mktemp("rows")
    for part in range(3):
        pq.write_table(table.slice(part * 130, 130), folder / f"{part}.parquet")
    return spark.read.parquet(str(folder))


def by_id(table: pa.Table) -> dict[int, str]:
    """Each row as text that tells its bits, by its id; instants in UTC."""
    columns = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        values = column.to_pylist()
        if pa.types.is_floating(column.type):
            values = bits(np.array([np.nan if value is None else value for value in values]))
        columns[name] = values
    rows = [{name: values[n] for name, values in columns.items()} for n in range(table.num_rows)]
    return {row["id"]: repr(row) for row in rows}


@pytest.mark.parametrize(("zone", "ansi"), [("UTC", "true"), ("America/New_York", "false")])
def test_spark_prepares_the_rows_that_memory_does(
    spark: SparkSession, frame: DataFrame, table: pa.Table, zone: str, ansi: str
) -> None:
    """Filter, join, dedupe, lag, aggregate and window over three sets of keys give the same rows to the bit in Spark
    as in memory, in any session time zone and ANSI mode, and leave out as many."""  # noqa: D205, D209  one sentence
    spec = read_spec(SPEC, "spec")
    wanted, counts, _ = prepare(table, spec, REFERENCES)
    with settings(spark, zone=zone, ansi=ansi):
        found = arrow_of(in_spark.marked(frame, spec, REFERENCES))
    left_out = found.column(in_spark.LEFT_OUT)
    kept = found.filter(left_out.is_null()).drop_columns([in_spark.LEFT_OUT])
    assert sorted(kept.schema.names) == sorted(wanted.schema.names)
    assert by_id(kept.select(wanted.schema.names)) == by_id(wanted)
    reasons = left_out.drop_null().to_pylist()
    found_counts = Counts(found.num_rows, reasons.count("filtered"), reasons.count("deduplicated"))
    assert found_counts == counts
    assert counts.filtered > 10
    assert counts.deduplicated > 10
    assert 10 < kept.column(REJECTED).null_count < kept.num_rows - 10


def test_a_transform_prepares_first(frame: DataFrame, table: pa.Table) -> None:
    """Over a spec with steps on the table, transform gives the features of the prepared table; rejected rows stay, and
    those that were left out are gone."""  # noqa: D205, D209  one sentence
    spec = read_spec(SPEC, "spec")
    made = prepare(table, spec, REFERENCES).table
    pipeline = Pipeline(spec, {})
    features = pipeline.transform(pipeline.contract(made, "table"))
    ids = made.column("id").to_pylist()
    kept = range(len(ids)) if features.kept is None else features.kept
    wanted = dict(zip((ids[row] for row in kept), bits(features.tensors["x"]), strict=True))
    rows = transform(frame, spec, REFERENCES, passthrough=["id", "more"], on_rejected="keep").collect()
    assert sorted(row["id"] for row in rows) == sorted(ids)
    found = {row["id"]: bits(np.array(row["x"])) for row in rows if row["rejection"] is None}
    assert found == wanted
    assert {row["rejection"]["code"] for row in rows if row["rejection"]} >= {"NO_MATCH"}
    more = dict(zip(table.column("id").to_pylist(), table.column("more").to_pylist(), strict=True))
    assert all(row["more"] == more[row["id"]] for row in rows)


def test_what_cannot_go_through_is_refused(spark: SparkSession, frame: DataFrame) -> None:
    """A column of a type that batches do not carry, and one that a step makes, are refused by the driver."""
    spec = read_spec(SPEC, "spec")
    with pytest.raises(ContractError, match="column 'wait' is interval day to second, which cannot go through"):
        in_spark.prepare(frame.selectExpr("*", "make_dt_interval(1) as wait"), spec, REFERENCES)
    with pytest.raises(ContractError, match=r"has a column 'X_1', which the spec's steps make\. .*give them as they"):
        in_spark.prepare(frame.selectExpr("*", "1 as X_1"), spec, REFERENCES)
    plain = spec.model_copy(update={"relational": ()})
    assert in_spark.prepare(frame, plain) is frame


@pytest.mark.parametrize("gathered", [1, 7, 50])
def test_groups_are_whole_wherever_batches_end(table: pa.Table, gathered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that gathers few rows at a time works on whole groups all the same, be a group larger than that or not."""
    monkeypatch.setattr(in_spark, "_ROWS", gathered)
    spec = read_spec(SPEC, "spec")
    schema, rows = table.schema, table
    stages = in_spark._stages(spec, (), ())
    for stage in stages:
        assert isinstance(stage, in_spark._Stage)
        part = TablePart(spec, REFERENCES)
        schema = in_spark._behind(part, stage, schema)
        if stage.keys is not None:
            rows = rows.sort_by([(key, "ascending") for key in stage.keys])
        work = in_spark._Work(spec, REFERENCES, stage, schema)
        rows = pa.Table.from_batches(in_spark._run(rows.to_batches(max_chunksize=11), work=work), schema)
    assert len(stages) == 4
    kept = rows.filter(rows.column(in_spark.LEFT_OUT).is_null())
    wanted = prepare(table, spec, REFERENCES).table
    assert by_id(kept.select(wanted.schema.names)) == by_id(wanted)


LARGE = pa.table(
    {
        "region": pa.array(["north", "south", "west"], pa.large_string()).dictionary_encode(),
        "code": pa.array([1, -(2**63), 5]),
        "size": pa.array([0.1, float("nan"), None], pa.float32()),
        "shape": [[1.0, 2.0], None, [3.0, 4.0]],
        "opened": pa.array([0, None, 1], pa.int32()).cast(pa.date32()),
    }
)
"""By two keys, with a column of every sort."""


def join_large(on_no_match: Any) -> dict[str, Any]:
    """A join to the large table by a joined column and a stored one."""
    kinds = [("size", "float32"), ("shape", "float32[2]"), ("opened", "date")]
    kinds = kinds if not isinstance(on_no_match, dict) else kinds[:1]
    return {
        "id": "large",
        "op": "lookup_join",
        "in": ["region", "k2"],
        "out": [name for name, _ in kinds],
        "params": {
            "reference": "large",
            "keys": [{"name": "region", "type": "string"}, {"name": "code", "type": "int64"}],
            "columns": [{"name": name, "type": kind} for name, kind in kinds],
            "on_no_match": on_no_match,
        },
    }


def spec_with(*relational: dict[str, Any], fields: Any = FIELDS) -> Spec:
    """A spec of these relational steps, which hands everything through."""
    steps = [{**step, "id": f"j{n}"} for n, step in enumerate(relational)]
    return read_spec(json.dumps(document(fields, relational=steps, columns=["x"])), "spec")


@pytest.fixture(scope="module")
def large(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    """The large table as Spark reads it."""
    path = tmp_path_factory.mktemp("large") / "large.parquet"
    pq.write_table(LARGE, path)
    return spark.read.parquet(str(path))


@pytest.mark.parametrize("on_no_match", ["reject", {"as_value": -1.5}], ids=str)
def test_a_join_by_spark_is_the_join_of_a_worker(
    frame: DataFrame, table: pa.Table, large: DataFrame, on_no_match: Any
) -> None:
    """A reference that Spark joins, by a key that a smaller one gives, makes of each row what a worker's join makes of
    it: the same columns to the bit, the same rejections, the same filtered rows."""  # noqa: D205, D209  one sentence
    few = step_of("filter", [], [], keep={"cmp": ["k", "!=", "a"]})
    spec = spec_with(few, look_up(), join_large(on_no_match), few | {"params": {"keep": {"cmp": ["id", "<", 800]}}})
    names = ["id", "region", *spec.relational[2].outputs]
    pipeline = Pipeline(spec, {**REFERENCES, "large": LARGE})
    worked = pipeline.contract(table, "table")
    features = pipeline.transform(worked)
    why = dict.fromkeys(range(worked.rows))
    why.update({row: found.pointer for found in features.rejections for row in found.rows.tolist()})
    columns = pa.table({name: worked.arrow(name) for name in names} | {"why": pa.array(why.values(), pa.string())})
    wanted = columns.filter(pa.array(~np.isin(np.arange(worked.rows), features.filtered)))
    made = transform(frame, spec, {**REFERENCES, "large": large}, passthrough=names, on_rejected="keep")
    found = arrow_of(made.selectExpr(*names, "rejection.pointer as why"))
    assert by_id(found) == by_id(wanted)
    assert wanted.num_rows > 100
    assert wanted.column("why").to_pylist().count("/relational/2/params/on_no_match") > 50 or on_no_match != "reject"


def test_a_join_by_spark_before_an_aggregate_feeds_it(frame: DataFrame, large: DataFrame, table: pa.Table) -> None:
    """On the table, too, Spark's join gives what memory's gives: to steps behind it, and as reasons of rejection."""
    steps = [
        look_up(),
        join_large("reject"),
        step_of("group_aggregate", ["x", "size"], ["m", "c"], keys=["opened"], aggregates=["sum", "count"], **LEAK),
    ]
    spec = spec_with(*steps)
    wanted = prepare(table, spec, {**REFERENCES, "large": LARGE}).table
    found = arrow_of(in_spark.prepare(frame, spec, {**REFERENCES, "large": large}))
    assert by_id(found.select(wanted.schema.names)) == by_id(wanted)
    assert 10 < wanted.column(REJECTED).null_count < wanted.num_rows - 10


def test_what_spark_cannot_join_as_a_worker_does_is_refused(frame: DataFrame, large: DataFrame) -> None:
    """A key that the contract changes or makes, a pin by digest, a key that is null or stands twice, and one of no
    plain type are refused before the join."""  # noqa: D205, D209  one sentence

    def refused(error: type[Exception], said: str, *, reference: DataFrame = large, **changes: Any) -> None:
        fields = [{**field, **changes.get("field", {})} if field["name"] == "k2" else field for field in FIELDS]
        step = join_large("as_missing")
        step["params"] |= changes.get("params", {})
        with pytest.raises(error, match=said):
            in_spark.prepare(
                changes.get("df", frame), spec_with(look_up(), step, fields=fields), {**REFERENCES, "large": reference}
            )

    changed = "joins by k2, which the contract changes, and so it cannot be joined by Spark"
    refused(SpecError, changed, field={"on_missing": {"as_value": 1}})
    refused(SpecError, changed, field={"range": {"max": 3}, "on_invalid": "as_missing"})
    refused(SpecError, "cannot be pinned by sha256 or version", params={"sha256": "0" * 64})
    refused(ContractError, r"keys \(region, code\) must be unique", reference=large.union(large))
    refused(
        ContractError,
        r"keys \(region, code\) are null",
        reference=large.withColumn("code", large["opened"].isNull().cast("bigint")).replace({0: None}, subset=["code"]),
    )
    refused(ContractError, "column 'size' is not there", reference=large.drop("size"))
    refused(
        ContractError, r"column 'k2' is decimal\(20,0\)", df=frame.withColumn("k2", frame["k2"].cast("decimal(20,0)"))
    )


def test_uint64_comes_through_spark_as_what_it_is(spark: SparkSession, tmp_path: Path) -> None:
    """Columns of uint64, carried and made, give behind Spark the values and rejections that they give in memory, and
    order rows by size."""  # noqa: D205, D209  one sentence
    values = [7, 10, 2**53, 2**53 + 1, 2**63, 2**64 - 1, None]
    unsigned = pa.array(values, pa.uint64())
    table = pa.table({"id": list(range(7)), "u": unsigned, "f": unsigned, "k": [1] * 7, "more": unsigned})
    pq.write_table(table, tmp_path / "a.parquet")
    fields = [{"name": "u", "type": "uint64"}, {"name": "f", "type": "float64"}, {"name": "k", "type": "int64"}]
    lag = {**step_of("window_lag", ["u"], ["p"], partition_by=["k"], order_by=["k"], leak="acknowledged"), "id": "lag"}
    spec = read_spec(json.dumps(document(fields, relational=[lag], columns=["f"])), "spec")
    storage, path = storage_for(str(tmp_path))
    rows = read_files(spark, tuple(storage.list_files(path)), table.column_names, cuts=Cuts(1 << 20, 1 << 20, 1))
    frames = {}
    for name, made in (("memory", prepare(table, spec).table), ("spark", arrow_of(in_spark.prepare(rows, spec)))):
        frame = Pipeline(spec, {}).contract(made.sort_by("id"), name)
        told = [(rejection.code, rejection.rows.tolist()) for rejection in frame.rejections]
        frames[name] = {column: frame.arrow(column).to_pylist() for column in ("u", "f", "p")}, told
    assert frames["spark"] == frames["memory"]
    assert frames["memory"][0]["p"] == [None, *values[:5], None]


@pytest.mark.parametrize("kind", [pa.binary(), pa.binary(3), pa.large_binary(), pa.binary_view()], ids=str)
def test_bytes_come_through_spark_as_what_they_are(spark: SparkSession, tmp_path: Path, kind: pa.DataType) -> None:
    """A column of bytes that a spec reads as a vector gives behind Spark the rows that it gives in memory."""
    rows = [bytes([number, 1, 250]) for number in range(40)]
    table = pa.table({"id": list(range(40)), "k": [1] * 40, "x": pa.array(rows, kind)})
    pq.write_table(table, tmp_path / "a.parquet")
    fields = [{"name": "id", "type": "int64"}, {"name": "k", "type": "int64"}, {"name": "x", "type": "uint8[3]"}]
    lag = {
        **step_of("window_lag", ["id"], ["p"], partition_by=["k"], order_by=["id"], leak="acknowledged"),
        "id": "lag",
    }
    spec = read_spec(json.dumps(document(fields, relational=[lag], columns=["k"])), "spec")
    storage, path = storage_for(str(tmp_path))
    read = read_files(spark, tuple(storage.list_files(path)), table.column_names, cuts=Cuts(1 << 20, 1 << 20, 1))
    for made in (prepare(table, spec).table, arrow_of(in_spark.prepare(read, spec))):
        frame = Pipeline(spec, {}).contract(made.sort_by("id"), "rows")
        assert not frame.rejections
        assert [bytes(row) for row in frame["x"].tolist()] == rows
