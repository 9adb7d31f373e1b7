"""Jobs over a table or a query: what Spark freezes is what is scored, once and whatever happens in between."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.dataset as ds
import pyspark
import pytest
from typer.testing import CliRunner

from etl.errors import InputMissing, ReadError
from etl.spark.freeze import freeze, opening
from jobs import cli
from jobs.config.job import read_config
from jobs.record import RunState
from jobs.run import RunRequest, run
from tests.numbers_job import FEATURES, JobWriter, published_scores, write_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspark.sql import SparkSession

ROWS = 600


class SimulatedStop(BaseException):
    """Leaves a run where a death would."""


@pytest.fixture
def rows(spark: SparkSession, tmp_path: Path) -> Iterator[pa.Table]:
    """Two files of rows, which Spark knows as the view `numbers`."""
    table = write_numbers(tmp_path / "in", files=2, rows=ROWS // 2, row_group=100)
    spark.read.parquet(str(tmp_path / "in")).createOrReplaceTempView("numbers")
    yield table
    spark.catalog.dropTempView("numbers")


@pytest.fixture
def oracle(logistic_onnx: Path) -> Callable[[pa.Table], dict[int, float]]:
    """Scores by id of plain onnxruntime."""
    session = ort.InferenceSession(str(logistic_onnx), providers=["CPUExecutionProvider"])

    def score(table: pa.Table) -> dict[int, float]:
        matrix = np.stack([table.column(name).to_numpy() for name in FEATURES], axis=1).astype(np.float32)
        (scores,) = session.run(None, {"X": matrix})
        return dict(zip(table.column("id").to_pylist(), scores[:, 0].tolist(), strict=True))

    return score


def check_scores(folder: Path, expected: dict[int, float]) -> None:
    """A run's folder has these keys, none twice, and their scores."""
    found = published_scores(folder)
    assert found.keys() == expected.keys()
    assert max(abs(found[key] - expected[key]) for key in expected) <= 1e-6


def run_id_of(job: Path, run_id: str, **options: Any) -> Any:
    """Run a job in this process."""
    return run(RunRequest(config=read_config(str(job)), run_id=run_id), **options)


def frozen(folder: Path, run_id: str) -> list[Path]:
    """The folders into which a run has frozen its source."""
    return sorted((folder / "out.scratch" / f"run_id={run_id}").iterdir())


def test_the_rows_of_a_view_are_scored(
    rows: pa.Table, tmp_path: Path, job_file: JobWriter, oracle: Callable[[pa.Table], dict[int, float]]
) -> None:
    """The rows of a view that the session knows get the scores of plain onnxruntime."""
    record = run_id_of(job_file(input={"table": "numbers"}), "view")
    assert (record.state, record.account.rows_in.rows) == (RunState.SUCCEEDED, ROWS)
    assert record.wall_seconds["freeze"] > 0
    check_scores(tmp_path / "out" / "run_id=view", oracle(rows))


def test_the_rows_of_a_query_over_a_saved_table_are_scored(
    spark: SparkSession,
    rows: pa.Table,
    tmp_path: Path,
    job_file: JobWriter,
    oracle: Callable[[pa.Table], dict[int, float]],
) -> None:
    """A query that joins, filters and computes is scored on the rows that the same steps give in numpy."""
    spark.table("numbers").write.option("path", str(tmp_path / "saved")).saveAsTable("saved_numbers")
    query = """
        select n.id, f0, f1, cast(f2 * w.factor as float) as f2, f3
        from saved_numbers n join (select * from values (0, 2), (1, -1) as v(k, factor)) w on n.id % 3 = w.k
        where n.id >= 100
    """
    try:
        run_id_of(job_file(input={"sql": query}), "joined")
    finally:
        spark.sql("drop table saved_numbers")
    ids = rows.column("id").to_numpy()
    factor = np.choose(ids % 3, [2, -1, 0]).astype(np.float32)
    changed = rows.set_column(3, "f2", pa.array(rows.column("f2").to_numpy() * factor))
    expected = changed.filter(pa.array((ids >= 100) & (ids % 3 < 2)))
    assert expected.num_rows > 300
    check_scores(tmp_path / "out" / "run_id=joined", oracle(expected))


def stop_at(*fatal: str) -> Callable[[str], None]:
    """A driver that dies when the last of these phases is about to begin, behind the others."""
    waiting = list(fatal)

    def stop(phase: str) -> None:
        if phase == waiting[0]:
            waiting.pop(0)
        if not waiting:
            raise SimulatedStop

    return stop


def test_death_between_freeze_and_plan_loses_and_doubles_nothing(
    rows: pa.Table, tmp_path: Path, job_file: JobWriter, oracle: Callable[[pa.Table], dict[int, float]]
) -> None:
    """A run that died with its table frozen and no plan freezes again, and of what was frozen before takes nothing."""
    job = job_file(input={"table": "numbers"})
    with pytest.raises(SimulatedStop):
        run_id_of(job, "r", on_phase=stop_at("freeze", "plan"))
    assert len(frozen(tmp_path, "r")) == 1
    record = run_id_of(job, "r")
    assert len(frozen(tmp_path, "r")) == 2
    assert record.account.rows_in.rows == ROWS
    check_scores(tmp_path / "out" / "run_id=r", oracle(rows))


def test_a_planned_run_scores_what_was_frozen_then(
    spark: SparkSession,
    rows: pa.Table,
    tmp_path: Path,
    job_file: JobWriter,
    oracle: Callable[[pa.Table], dict[int, float]],
) -> None:
    """After the plan a resume uses the frozen rows, although the view gives others by now."""
    job = job_file(input={"table": "numbers"})
    with pytest.raises(SimulatedStop):
        run_id_of(job, "r", on_phase=stop_at("score"))
    before = frozen(tmp_path, "r")
    spark.sql("select id + 10 as id, f0, f1, f2, f3 from numbers").createOrReplaceTempView("numbers")
    record = run_id_of(job, "r")
    assert record.resumed
    assert frozen(tmp_path, "r") == before
    assert len(before) == 1
    check_scores(tmp_path / "out" / "run_id=r", oracle(rows))


def test_a_trial_freezes_no_more_than_it_scores(
    rows: pa.Table, tmp_path: Path, job_file: JobWriter, oracle: Callable[[pa.Table], dict[int, float]]
) -> None:
    """With --limit only so many rows are frozen, and those are scored; again with the same id, the same ones."""
    config = read_config(str(job_file(input={"table": "numbers"})))
    request = RunRequest(config=config, run_id="trial", limit=7)
    with pytest.raises(SimulatedStop):
        run(request, stop_at("score"))
    (folder,) = frozen(tmp_path, "trial")
    kept = ds.dataset(folder, format="parquet").to_table()
    assert kept.num_rows == 7
    record = run(request)
    assert record.account.scored.rows == 7
    everything = oracle(rows)
    check_scores(Path(record.output), {key: everything[key] for key in kept.column("id").to_pylist()})


def test_an_empty_query_publishes_no_rows(rows: pa.Table, tmp_path: Path, job_file: JobWriter) -> None:
    """A query without rows is scored as any other: a version with nothing in it."""
    record = run_id_of(job_file(input={"sql": "select * from numbers where id < 0"}), "none")
    assert (record.state, record.account.rows_in.rows) == (RunState.SUCCEEDED, 0)
    assert (tmp_path / "out" / "run_id=none" / "_SUCCESS").exists()


TYPES = """
    select id, f0, f1, f2, f3, cast(id % 100 as tinyint) as small, id % 2 = 0 as even, concat('n', id) as text,
           date'2024-02-29' as day, timestamp'2024-01-01 12:00:00.123456 Europe/Berlin' as instant,
           timestamp_ntz'9999-12-31 23:59:59.999999' as wall, cast(null as string) as nothing
    from numbers
"""


def test_types_that_spark_writes_arrive(rows: pa.Table, tmp_path: Path, job_file: JobWriter) -> None:
    """Integers, booleans, texts, dates, and timestamps with and without zone go through freezing unchanged."""
    names = ["id", "small", "even", "text", "day", "instant", "wall", "nothing"]
    output = {"uri": str(tmp_path / "out"), "passthrough": names}
    run_id_of(job_file(input={"sql": TYPES}, output=output), "types")
    published = ds.dataset(tmp_path / "out" / "run_id=types", format="parquet").to_table()
    found = {row["id"]: row for row in published.to_pylist()}
    assert len(found) == ROWS
    for key in (0, 301):
        assert [found[key][name] for name in names] == [
            key,
            key % 100,
            key % 2 == 0,
            f"n{key}",
            date(2024, 2, 29),
            datetime(2024, 1, 1, 11, 0, 0, 123_456, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            None,
        ]


def refused(job: Path) -> str:
    """What the command says of a job that it refuses."""
    done = CliRunner().invoke(cli.app, ["run", str(job), "--run-id", "r"])
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    return done.stderr.partition("error: ")[2]


@pytest.mark.parametrize(
    ("expression", "type_"), [("named_struct('a', 1)", "struct<a: int32 not null>"), ("binary('a')", "binary")]
)
def test_a_type_that_is_not_read_is_named(
    rows: pa.Table, tmp_path: Path, job_file: JobWriter, expression: str, type_: str
) -> None:
    """A column of a type that no contract knows is refused by name and type, as a feature and as a passthrough."""
    feature = "select id, f0, f1, f2, ODD as f3 from numbers".replace("ODD", expression)
    said = refused(job_file(input={"sql": feature}))
    _, _, problem = said.partition(".parquet: ")
    assert problem == f"breaks the input contract: column 'f3' has type {type_}, the contract says float64.\n"
    output = {"uri": str(tmp_path / "out"), "passthrough": ["id", "odd"]}
    carried = job_file(input={"sql": "select *, ODD as odd from numbers".replace("ODD", expression)}, output=output)
    found = f"output.passthrough: column 'odd' has type {type_}"
    advice = "Leave it out, or cast it: `input.sql` can."
    assert refused(carried) == f"{found}, which cannot be passed through. {advice}\n"


@pytest.fixture
def ansi(spark: SparkSession) -> Iterator[None]:
    """Spark's ANSI mode, which Spark 3.5 has to be asked for: without it what cannot be computed is null."""
    before = spark.conf.get("spark.sql.ansi.enabled")
    spark.conf.set("spark.sql.ansi.enabled", "true")
    yield
    spark.conf.set("spark.sql.ansi.enabled", str(before))


OPENED = "cannot be opened by Spark"
FROZEN = "cannot be frozen as Parquet in file://{folder}"
NO_TABLE = (
    "[TABLE_OR_VIEW_NOT_FOUND] The table or view `nope` cannot be found. "
    "Verify the spelling and correctness of the schema and catalog."
)
NO_QUERY = "[PARSE_SYNTAX_ERROR] Syntax error at or near 'selec'. (line 1, pos 0)."
TWICE = "[COLUMN_ALREADY_EXISTS] The column `f0` already exists. Choose another name or rename the existing column."
NO_NUMBER = (
    '[CAST_INVALID_INPUT] The value \'x5\' of the type "STRING" cannot be cast to "INT" because it is malformed. '
    "Correct the value as per the syntax, or change its target type. "
    "Use `try_cast` to tolerate malformed input and return NULL instead."
)
BY_ZERO = "[DIVIDE_BY_ZERO] Division by zero. Use `try_divide` to tolerate divisor being 0 and return NULL instead."
SOURCES = {
    "no such table": ({"table": "nope"}, OPENED, NO_TABLE),
    "no such table in a query": ({"sql": "select * from nope"}, OPENED, NO_TABLE),
    "no query": ({"sql": "selec * from numbers"}, OPENED, NO_QUERY),
    "two columns of one name": ({"sql": "select f0, f0 from numbers"}, OPENED, TWICE),
    "no number": ({"sql": "select cast(concat('x', id) as int) from numbers where id = 5"}, FROZEN, NO_NUMBER),
    "division by zero": ({"sql": "select f0 / (id - 5) as f0 from numbers"}, FROZEN, BY_ZERO),
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_that_spark_cannot_give_is_refused(
    ansi: None, rows: pa.Table, tmp_path: Path, job_file: JobWriter, source: str
) -> None:
    """A table or query that Spark cannot resolve, or not execute, ends with code 2 and Spark's cause, and no trace."""
    given, problem, cause = SOURCES[source]
    said = refused(job_file(input=given))
    said = re.sub(re.escape(str(tmp_path)) + r"/out\.scratch/run_id=r/frozen-[0-9a-f]{8}", "{folder}", said)
    # Spark 3.5 says less, and this otherwise.
    said = re.sub(r' SQLSTATE: \w{5}\.?| If necessary set "spark\.sql\.ansi\.enabled" [^.]*\.', "", said)
    said = said.replace("'.(line", "'. (line").replace("Consider to choose", "Choose")
    what = "table 'nope'" if "table" in given else "the query of `input.sql`"
    assert said == f"{what} {problem}: {cause}\n"
    assert not list(tmp_path.rglob("out/**/*.parquet"))


def test_what_cannot_be_resolved_is_told_from_what_cannot_be_executed(
    ansi: None, spark: SparkSession, tmp_path: Path
) -> None:
    """A missing table is missing input, a failing query cannot be read, and a failed disk is told as Java tells it."""
    with pytest.raises(InputMissing):
        freeze(spark, table="nope", sql=None, folder=str(tmp_path / "a"))
    with pytest.raises(ReadError, match="DIVIDE_BY_ZERO"):
        freeze(spark, table=None, sql="select 1 / 0", folder=str(tmp_path / "b"))
    with pytest.raises(ReadError, match=r"in file:///proc/nowhere: java\.io\.IOException: Mkdirs failed to create"):
        freeze(spark, table=None, sql="select 1", folder="/proc/nowhere")


def test_a_spark_that_has_no_s3a_is_told_which_package_it_needs(spark: SparkSession, tmp_path: Path) -> None:
    """Reading from S3, or freezing there, without hadoop-aws names the package of the very Hadoop that Spark has."""
    hadoop = next(Path(pyspark.__file__).parent.glob("jars/hadoop-client-api-*.jar")).stem.rpartition("-")[2]
    advice = rf"\. Spark has no S3A.* org\.apache\.hadoop:hadoop-aws:{hadoop} \("
    with pytest.raises(ReadError, match=advice):
        freeze(spark, table=None, sql="select * from parquet.`s3a://bucket/in`", folder=str(tmp_path / "a"))
    with pytest.raises(ReadError, match=advice):
        freeze(spark, table=None, sql="select 1 as x", folder="s3://bucket/out")
    with pytest.raises(ReadError, match=advice), opening(spark, "the version"):
        spark.read.parquet("s3a://bucket/out")


def test_hours_are_utc_wherever_the_session_stands(spark: SparkSession, tmp_path: Path) -> None:
    """A session in another zone freezes the same rows, and has its own settings back afterwards."""
    settings = {
        "spark.sql.session.timeZone": "America/New_York",
        "spark.sql.parquet.outputTimestampType": "INT96",
        # What a cluster would have: here nothing listens.
        "fs.defaultFS": "hdfs://127.0.0.1:1/",
    }
    before = {key: spark.conf.get(key, None) for key in settings}
    query = """
        select hour(timestamp'2024-07-01 12:00:00Z') as hour, timestamp'2024-07-01 12:00:00' as text,
               timestamp'9999-12-31 00:00:00Z' as late
    """
    folder = tmp_path / "a folder#?%20[x]:y"
    try:
        for key, value in settings.items():
            spark.conf.set(key, value)
        freeze(spark, table=None, sql=query, folder=str(folder))
        assert {key: spark.conf.get(key) for key in settings} == settings
    finally:
        for key, old in before.items():
            spark.conf.unset(key) if old is None else spark.conf.set(key, old)
    (row,) = ds.dataset([str(path) for path in folder.glob("*.parquet")]).to_table().to_pylist()
    assert row == {
        "hour": 12,
        "text": datetime(2024, 7, 1, 12, tzinfo=UTC),
        "late": datetime(9999, 12, 31, tzinfo=UTC),
    }
