"""Jobs whose spec needs other rows: Spark prepares and freezes the table, and scores are those of DuckDB and numpy."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from etl.relational import prepare
from etl.runs.local import LocalStorage
from etl.spec import read_spec
from jobs import cli
from jobs.config.job import read_config
from jobs.errors import Refused
from jobs.history.runs import find_run, quarantined_rows
from jobs.planning.plan import load_plan, target_of
from jobs.planning.preparation import RowCounts
from jobs.record import RunState
from jobs.run import RunRequest, run
from scoring.bundles.create import BundleParts, create_bundle
from scoring.outputs.columns import OutputColumn
from tests.numbers_job import WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from jobs.record import RunRecord

ROWS = 1500
ODD = "a 50% %41 é.parquet"
POINT = {"point_in_time": {"event_time": "paid_at"}}
SPEC: dict[str, Any] = {
    "format": "scorespec/1",
    "spec_id": "payments",
    "input": {
        "fields": [
            {"name": "account", "type": "string", "nullable": False},
            {"name": "paid_at", "type": "timestamp", "role": "event_time"},
            {"name": "amount", "type": "float64", "range": {"max": 900}},
            {"name": "code", "type": "int64"},
        ],
        "extra_columns": "error",
    },
    "relational": [
        {
            "id": "real",
            "op": "filter",
            "in": [],
            "out": [],
            "params": {"keep": {"cmp": ["code", "!=", 0]}},
        },
        {
            "id": "once",
            "op": "dedupe",
            "in": [],
            "out": [],
            "params": {"keys": ["account", "paid_at", "code"], "order_by": ["amount"], "leak": "acknowledged"},
        },
        {
            "id": "recent",
            "op": "window_rolling",
            "in": ["amount", "code"],
            "out": ["spent", "times"],
            "params": {
                "partition_by": ["account"],
                "aggregates": ["sum", "count"],
                "window": {"seconds": 3600},
                **POINT,
            },
        },
        {
            "id": "before",
            "op": "window_lag",
            "in": ["amount"],
            "out": ["last"],
            "params": {"partition_by": ["account"], **POINT},
        },
        {
            "id": "look",
            "op": "lookup_join",
            "in": ["code"],
            "out": ["risk"],
            "params": {
                "reference": "codes",
                "keys": [{"name": "code", "type": "int64"}],
                "columns": [{"name": "risk", "type": "float32"}],
                "on_no_match": "reject",
            },
        },
    ],
    "steps": [
        {
            "id": "s",
            "op": "impute",
            "in": ["spent"],
            "out": ["spent_i"],
            "params": {"strategy": "constant", "value": 0},
        },
        {"id": "l", "op": "impute", "in": ["last"], "out": ["last_i"], "params": {"strategy": "constant", "value": -1}},
        {"id": "z", "op": "standardize", "in": ["spent_i"], "out": ["z"], "state": {"mean": 100, "std": 300, "n": 9}},
        {"id": "y", "op": "standardize", "in": ["last_i"], "out": ["y"], "state": {"mean": 50, "std": 100, "n": 9}},
    ],
    "outputs": {"tensors": [{"tensor": "X", "from": ["z", "times", "y", "risk"]}]},
    "expectations": [
        {"id": "single", "batch": {"unique": ["account", "paid_at", "code"]}, "severity": "fail"},
        {"id": "alike", "batch": {"unique": ["times", "risk"]}, "severity": "warn"},
    ],
}
CODES = pa.table({"code": [1, 2, 3], "risk": pa.array([0.5, 0.25, 0.75], pa.float32())})


def payments() -> pa.Table:
    """Payments with doubles, unknown codes, amounts above the range and missing ones, in no order."""
    rng = np.random.default_rng(5)
    seconds = rng.integers(0, 40_000, ROWS)
    amount = np.round(rng.gamma(2.0, 80.0, ROWS), 2)
    table = pa.table(
        {
            "key": pa.array(range(ROWS)),
            "account": pa.array([f"a{n}" for n in rng.integers(0, 60, ROWS)]),
            "paid_at": pa.array((1_700_000_000 + seconds) * 1_000_000).view(pa.timestamp("us", "UTC")),
            "amount": pa.array(amount, mask=rng.random(ROWS) < 0.05),
            "code": pa.array(rng.choice([0, 1, 2, 3, 7], ROWS, p=[0.05, 0.4, 0.3, 0.23, 0.02])),
        }
    )
    doubles = table.slice(0, 100).set_column(0, "key", pa.array(range(ROWS, ROWS + 100)))
    return pa.concat_tables([table, doubles]).combine_chunks()


def expected(table: pa.Table) -> tuple[dict[int, float], dict[str, int]]:
    """Score by key of the rows that are neither left out nor rejected, by DuckDB and numpy; and how many are not."""
    connection = duckdb.connect()
    connection.register("payments", table)
    connection.register("codes", CODES)
    connection.execute("SET TimeZone = 'UTC'")
    query = """
        WITH kept AS (SELECT * FROM payments WHERE code <> 0),
        once AS (
            SELECT * FROM kept
            QUALIFY row_number() OVER (PARTITION BY account, paid_at, code ORDER BY amount NULLS FIRST, key) = 1
        ),
        told AS (
            SELECT *, epoch_us(paid_at) AS t,
                   (SELECT sum(o.amount) FROM once o WHERE o.account = m.account AND o.paid_at < m.paid_at
                    AND o.paid_at >= m.paid_at - INTERVAL 1 HOUR) AS spent,
                   (SELECT count(o.code) FROM once o WHERE o.account = m.account AND o.paid_at < m.paid_at
                    AND o.paid_at >= m.paid_at - INTERVAL 1 HOUR) AS times,
                   (SELECT o.amount FROM once o WHERE o.account = m.account AND o.paid_at < m.paid_at
                    ORDER BY o.paid_at DESC, o.amount DESC NULLS LAST, o.code DESC, o.key DESC LIMIT 1) AS last
            FROM once m
        )
        SELECT key, spent, times, last, risk, amount FROM told LEFT JOIN codes USING (code)
    """
    rows = connection.execute(query).fetchall()
    counts = {
        "filtered": connection.execute("SELECT count(*) FROM payments WHERE code = 0").fetchall()[0][0],
        "rejected": sum(row[4] is None or (row[5] or 0) > 900 for row in rows),
    }
    counts["deduplicated"] = table.num_rows - counts["filtered"] - len(rows)
    good = [row for row in rows if row[4] is not None and (row[5] or 0) <= 900]
    counts["alike"] = len(good) - len({(row[2], row[4]) for row in good})
    features = [
        [((row[1] or 0) - 100) / 300, row[2], ((-1 if row[3] is None else row[3]) - 50) / 100, row[4]] for row in good
    ]
    scores = 1 / (1 + np.exp(-(np.array(features, np.float32) @ WEIGHTS)[:, 0]))
    return dict(zip((row[0] for row in good), scores.tolist(), strict=True)), counts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, logistic_onnx: Path) -> Path:
    """The payments in two files of mixed types, one of a name that a URI would escape; codes; bundle."""
    folder = tmp_path_factory.mktemp("payments")
    table, inside = payments(), folder / "in" / "year=2023 [a]"
    stored = table.set_column(0, "key", table.column("key").cast(pa.uint64()))
    inside.mkdir(parents=True)
    pq.write_table(stored.slice(0, 900), inside / ODD, row_group_size=200)
    other = stored.slice(900)
    other = other.set_column(2, "paid_at", other.column("paid_at").cast(pa.timestamp("ns", "UTC")))
    other = other.set_column(1, "account", other.column("account").cast(pa.large_string()).dictionary_encode())
    other = other.set_column(4, "code", other.column("code").cast(pa.uint8()))
    pq.write_table(other, inside / "b.parquet", row_group_size=200)
    pq.write_table(CODES, folder / "codes.parquet")
    spec = read_spec(json.dumps(SPEC), "spec")
    made = prepare(table.drop_columns(["key"]), spec).table
    good = made.filter(pa.array([code in {1, 2, 3} for code in made.column("code").to_pylist()]))
    parts = BundleParts(
        name="payments",
        version="1",
        model=logistic_onnx.read_bytes(),
        spec=spec,
        columns=(OutputColumn(column="p", tensor="p", type="float32"),),
        golden_rows=good.slice(0, 4),
        references={"codes": CODES},
        facts={},
    )
    create_bundle(LocalStorage(), str(folder / "bundle"), parts)
    return folder


def config_of(folder: Path, out: Path, **sections: Any) -> Path:
    """The job's config."""
    job = {
        "api_version": "batchscore/1",
        "name": "payments",
        "input": {"files": str(folder / "in")},
        "references": {"codes": str(folder / "codes.parquet")},
        "model": {"bundle": str(folder / "bundle")},
        "output": {"uri": str(out), "passthrough": ["key"]},
        "budgets": {"contract": {"max_ratio": 0.1}, "transform": {"max_ratio": 0.1}},
        "splits": {"target_bytes": 20_000},
        **sections,
    }
    path = out.with_name("job.yaml")
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def check(record: RunRecord, out: Path) -> None:
    """Check that what was published is what DuckDB computes, and that the record's counts add up."""
    wanted, counts = expected(payments())
    published = ds.dataset(out / f"run_id={record.run_id}", format="parquet").to_table()
    found = dict(zip(published.column("key").to_pylist(), published.column("p").to_pylist(), strict=True))
    assert len(found) == published.num_rows
    assert found.keys() == wanted.keys()
    assert max(abs(found[key] - wanted[key]) for key in wanted) <= 1e-6
    assert record.relational == RowCounts(
        rows_in=ROWS + 100, filtered=counts["filtered"], deduplicated=counts["deduplicated"]
    )
    assert counts["deduplicated"] >= 90
    assert record.account.rows_in.rows == ROWS + 100 - counts["filtered"] - counts["deduplicated"]
    assert record.account.quarantined.rows == counts["rejected"] > 10
    assert record.account.scored.rows == len(wanted)
    assert [one.hits for one in record.expectations] == [0, counts["alike"]]
    assert {one.rows for one in record.expectations} == {len(wanted)}


def check_references(folder: Path, out: Path, run_id: str) -> None:
    """Check that quarantine names rows of the job's own files, by path, pin and place, that have the shown values."""
    bad = quarantined_rows(find_run(str(out), run_id)).to_pylist()
    stored = {str(path): pq.ParquetFile(path) for path in (folder / "in").rglob("*.parquet")}
    pins = {file.path: file.etag for file in LocalStorage().list_files(str(folder / "in"))}
    assert {row["file"] for row in bad} == stored.keys() == pins.keys()
    for row in bad:
        there = stored[row["file"]].read().slice(row["row"], 1).to_pylist()[0]
        assert stored[row["file"]].read_row_group(row["row_group"]).slice(row["row_in_group"], 1).to_pylist() == [there]
        assert row["preview"] == {name: there[name] for name in row["preview"]}
        assert row["etag"] == pins[row["file"]]
        assert there["amount"] > 900 if row["code"] == "OUT_OF_RANGE" else there["code"] == 7
        prepared = pq.read_table(row["prepared_file"]).slice(row["prepared_row"], 1).to_pylist()[0]
        assert prepared["key"] == there["key"]
    assert len({(row["file"], row["row"]) for row in bad}) == len(bad)


def test_a_job_is_scored_on_what_its_relational_steps_make(spark: SparkSession, folder: Path, tmp_path: Path) -> None:
    """Files of any readable form are prepared, frozen and scored as DuckDB and numpy do; the record has the counts; the
    same id finds the run published, and refuses when a source file is another."""  # noqa: D205, D209  one sentence
    config = config_of(folder, tmp_path / "out")
    request = RunRequest(config=read_config(str(config)), run_id="r")
    told: list[str] = []
    record = run(request, told.append)
    assert told[:6] == ["claim", "list", "plan", "start_spark", "prepare", "plan"]
    assert told[6:8] == ["score", "settle"]
    assert record.state == RunState.PARTIALLY_SUCCEEDED
    assert {"prepare", "score"} <= record.wall_seconds.keys()
    check(record, tmp_path / "out")
    published = ds.dataset(tmp_path / "out" / "run_id=r", format="parquet")
    assert published.schema.field("key").type == pa.uint64()
    check_references(folder, tmp_path / "out", "r")
    assert run(request) == record
    source = next((folder / "in").rglob("b.parquet"))
    kept = source.read_bytes()
    try:
        pq.write_table(pq.read_table(source).slice(1), source)
        with pytest.raises(Refused, match=r"was published with other input: .*b\.parquet was changed"):
            run(request)
    finally:
        source.write_bytes(kept)


def test_a_query_is_prepared_as_files_are(spark: SparkSession, folder: Path, tmp_path: Path) -> None:
    """A job over a query prepares all its rows, also where only some are scored, and a session in another zone changes
    nothing."""  # noqa: D205, D209  one sentence
    pq.write_table(payments(), tmp_path / "payments.parquet")
    spark.read.parquet(str(tmp_path / "payments.parquet")).createOrReplaceTempView("payments")
    query = {"sql": "select *, amount as unread from payments"}
    before = spark.conf.get("spark.sql.session.timeZone")
    config = read_config(str(config_of(folder, tmp_path / "out", input=query)))
    try:
        spark.conf.set("spark.sql.session.timeZone", "America/New_York")
        record = run(RunRequest(config=config, run_id="q"))
        check(record, tmp_path / "out")
        trial = run(RunRequest(config=config, run_id="trial", limit=50))
        bad = quarantined_rows(find_run(str(tmp_path / "out"), "q"))
    finally:
        spark.conf.set("spark.sql.session.timeZone", str(before))
        spark.catalog.dropTempView("payments")
    assert trial.relational == record.relational
    assert all("/frozen-" in path for path in bad.column("file").unique().to_pylist())
    assert bad.column("prepared_row").null_count == bad.num_rows
    assert trial.account.scored.rows + trial.account.quarantined.rows == 50


def test_a_reference_that_no_worker_holds_is_joined_by_spark(spark: SparkSession, folder: Path, tmp_path: Path) -> None:
    """Where a reference table is larger than workers may hold, the scores are the same, its files are pinned in the
    plan, and a plan says that Spark will join it."""  # noqa: D205, D209  one sentence
    path = config_of(folder, tmp_path / "out", scoring={"reference_bytes": 1})
    config = read_config(str(path))
    record = run(RunRequest(config=config, run_id="large"))
    check(record, tmp_path / "out")
    check_references(folder, tmp_path / "out", "large")
    plan = load_plan(target_of(config, "large", scratch=False))
    assert plan is not None
    assert plan.prepared is not None
    assert [file.path for file in plan.prepared.joined["codes"]] == [str(folder / "codes.parquet")]
    assert (plan.order.models[0].references, plan.order.models[0].moved) == ({}, ("look",))
    done = CliRunner().invoke(cli.app, ["plan", str(path)])
    assert done.exit_code == 0, done.output
    told = " ".join(done.stdout.split())
    assert re.search(r"reference table 'codes' \([\d,]+ bytes\) above scoring\.reference_bytes, which Spark", told)


def test_what_only_a_run_can_tell_is_not_shown_before(folder: Path, tmp_path: Path) -> None:
    """There is no plan of such a job, and the reason is told; a check of it says what was not looked at."""
    config = config_of(folder, tmp_path / "out")
    done = CliRunner().invoke(cli.app, ["plan", str(config)])
    assert done.exit_code == 0, done.output
    told = " ".join(done.stdout.split())
    assert "the spec's relational steps run in Spark on the whole table, when a run begins" in told
    done = CliRunner().invoke(cli.app, ["validate", str(config)])
    assert done.exit_code == 0, done.output
