from __future__ import annotations

import inspect
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import functions

from etl.errors import ContractError, SpecError
from etl.spark.causes import cause_of
from scoring.bundles.create import create_bundle
from scoring.engine.stream import ScoreOptions
from scoring.errors import BundleError
from scoring.outputs.columns import OutputColumn
from scoring.scorer import loads_so_far
from scoring.spark import frames, streaming, udf
from scoring.spark.frames import score
from scoring.spark.udf import score_udf
from scoring.tables import score_table
from tests.scoring.workshop import (
    STORE,
    Work,
    logistic_bundle,
    logistic_scores,
    lookup_bundle,
    model_of,
    numbers,
    parts_of,
    predictions,
    with_values,
)
from tests.spark.frames import arrow_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame, SparkSession

HAS_ARROW = hasattr(functions, "arrow_udf")
WAYS: list[Any] = ["arrow", "pandas"] if HAS_ARROW else ["pandas"]
ROWS = 250
BAD = {0: 1000.0, 1: None, 97: 1000.0}
"""Rows of f2 that the contract rejects, the first one too."""

ROWS_CONF = "spark.sql.execution.arrow.maxRecordsPerBatch"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, and a file of rows, some of which its contract rejects."""
    place = tmp_path_factory.mktemp("udf")
    logistic_bundle(place / "bundle")
    table = numbers(ROWS)
    # The contract's column with a missing value, and first in the file.
    pq.write_table(with_values(table, "f2", BAD), place / "rows.parquet")
    return place


@pytest.fixture(scope="module")
def rows(spark: SparkSession, folder: Path) -> DataFrame:
    """The rows in three partitions."""
    return spark.read.parquet(str(folder / "rows.parquet")).repartition(3)


@pytest.fixture
def ragged(spark: SparkSession) -> Iterator[int]:
    """Arrow batches of a few rows, the last of each partition shorter."""
    before = spark.conf.get(ROWS_CONF)
    spark.conf.set(ROWS_CONF, "7")
    yield 7
    spark.conf.set(ROWS_CONF, str(before))


def expected() -> dict[int, float | None]:
    """By id what onnxruntime alone says; None for the rows that the contract rejects."""
    scores = logistic_scores(numbers(ROWS))
    return {row: None if row in BAD else float(scores[row]) for row in range(ROWS)}


def found(df: DataFrame, name: str = "p") -> dict[int, float | None]:
    """By id what a DataFrame says, each id once."""
    taken = [(row["id"], row[name]) for row in df.select("id", name).collect()]
    assert len({key for key, _ in taken}) == len(taken)
    return dict(taken)


def near(one: dict[int, float | None], two: dict[int, float | None]) -> bool:
    """The same rows, the same without a score, and scores that differ in no more than how products were summed."""
    return one.keys() == two.keys() and all(
        (score is None) == (two[row] is None) and (score is None or abs(score - (two[row] or 0)) < 1e-6)
        for row, score in one.items()
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_function_gives_what_onnxruntime_gives(rows: DataFrame, folder: Path, ragged: int, way: Any) -> None:
    """Each row has the score that onnxruntime alone gives it, in ragged Arrow batches whose first row is rejected."""
    scored = score_udf(folder / "bundle", way=way)
    assert near(found(rows.withColumn("p", scored())), expected())
    struct = functions.struct(functions.lit("x").alias("other"), *reversed(rows.columns))
    assert near(found(rows.withColumn("p", scored(struct))), expected())


@pytest.mark.parametrize("partitions", [1, 4])
def test_a_frame_gives_what_the_worker_of_a_job_gives(
    rows: DataFrame, folder: Path, tmp_path: Path, ragged: int, partitions: int
) -> None:
    """`score` gives what the worker of a job publishes of the same rows; what that rejects has null and a reason."""
    work = Work(tmp_path / "job", pq.read_table(folder / "rows.parquet"))
    job = predictions(work.score(batch_rows=16))
    scored = score(rows.repartition(partitions), folder / "bundle", options=ScoreOptions(batch_rows=16))
    assert scored.columns == [*rows.columns, "p", "rejected"]
    by_id = {row["id"]: row for row in scored.collect()}
    assert len(by_id) == ROWS
    assert {row: by_id[row]["p"] for row in job.column("id").to_pylist()} == pytest.approx(
        dict(zip(job.column("id").to_pylist(), job.column("p").to_pylist(), strict=True)), abs=1e-7
    )
    assert {row: by_id[row]["rejected"] for row in BAD} == {
        0: "OUT_OF_RANGE: f2 is above 100.0 (/input/fields/2/range)",
        1: "MISSING: f2 has no value (/input/fields/2/on_missing)",
        97: "OUT_OF_RANGE: f2 is above 100.0 (/input/fields/2/range)",
    }
    assert {row["rejected"] for key, row in by_id.items() if key not in BAD} == {None}


def test_a_table_in_memory_gives_what_onnxruntime_gives(folder: Path) -> None:
    """`score_table` gives each row its score without Spark, in the order of the rows, and stays loaded."""
    table = pq.read_table(folder / "rows.parquet")
    before = loads_so_far()
    scored = [score_table(table, folder / "bundle") for _ in range(3)]
    assert loads_so_far() <= before + 1  # a worker in this process may have loaded the same content
    assert scored[0].column("id").to_pylist() == list(range(ROWS))
    assert near(dict(enumerate(scored[0].column("p").to_pylist())), expected())
    assert score_table(table, folder / "bundle", passthrough=["id"], on_bad_row="drop").num_rows == ROWS - len(BAD)
    assert score_table(table.slice(0, 0), folder / "bundle").schema == scored[0].schema


@pytest.mark.parametrize("way", WAYS)
def test_a_function_is_called_from_sql(spark: SparkSession, rows: DataFrame, folder: Path, way: Any) -> None:
    """A registered function takes the contract's columns in their order, and gives reasons where it was asked to."""
    spark.udf.register("batchscore_test", score_udf(folder / "bundle", on_bad_row="reason", way=way))
    rows.createOrReplaceTempView("batchscore_rows")
    call = "batchscore_test(f0, f1, f2, f3, id, name)"
    told = spark.table("batchscore_rows").selectExpr("id", f"{call} AS s").select("id", "s.*").collect()
    count = spark.sql("SELECT batchscore_test(f0, f1, f2, f3, id, name).p AS p FROM batchscore_rows WHERE id = 2")
    assert count.count() == 1
    spark.catalog.dropTempView("batchscore_rows")
    assert near({row["id"]: row["p"] for row in told}, expected())
    assert {row["id"] for row in told if row["rejected"] is not None} == set(BAD)


def evaluated(df: DataFrame) -> list[int]:
    """Collect, and tell how many rows each evaluation of Python functions in the plan has been given."""
    df.collect()
    any_frame: Any = df
    plan = any_frame._jdf.queryExecution().executedPlan()
    pending, counts = [plan], []
    while pending:
        node = pending.pop()
        if node.nodeName() == "AdaptiveSparkPlan":
            pending.append(node.executedPlan())
        elif "QueryStage" in node.nodeName():
            pending.append(node.plan())
        elif "EvalPython" in node.nodeName():
            counts.append(node.metrics().get("pythonNumRowsReceived").get().value())
        children = node.children()
        pending.extend(children.apply(at) for at in range(children.size()))
    return counts


def test_a_filter_on_a_score_does_not_score_twice(rows: DataFrame, folder: Path) -> None:
    """Where scores are filtered, each row is scored once; a deterministic function of the same kind scores twice."""
    scored: Any = score_udf(folder / "bundle")
    assert not scored.deterministic
    kept = rows.withColumn("p", scored()).filter("p > 0.5").filter("p < 0.9")
    assert evaluated(kept) == [ROWS]
    assert 0 < kept.count() < ROWS
    any_functions: Any = functions
    make = any_functions.arrow_udf if HAS_ARROW else any_functions.pandas_udf
    naive = make(scored.func, scored.returnType)
    names = [functions.col(name) for name in ("f0", "f1", "f2", "f3", "id", "name")]
    assert len(evaluated(rows.withColumn("p", naive(*names)).filter("p > 0.5").filter("p < 0.9"))) > 1


def test_rows_are_ordered_by_a_score(spark: SparkSession, rows: DataFrame, folder: Path) -> None:
    """ORDER BY takes the function as it is; an aggregate refuses it, for it is not deterministic."""
    spark.udf.register("ordering", score_udf(folder / "bundle"))
    rows.createOrReplaceTempView("to_order")
    ordered = spark.sql("SELECT id FROM to_order ORDER BY ordering(f0, f1, f2, f3, id, name)")
    wanted = expected()
    scores = [wanted[row["id"]] for row in ordered.collect()]
    there = [score for score in scores if score is not None]
    assert scores[: len(BAD)] == [None] * len(BAD)
    assert len(there) == ROWS - len(BAD)
    assert all(one <= two + 1e-6 for one, two in itertools.pairwise(there))
    with pytest.raises(AnalysisException, match="NONDETERMINISTIC"):
        spark.sql("SELECT avg(ordering(f0, f1, f2, f3, id, name)) FROM to_order")


@pytest.mark.parametrize("way", WAYS)
def test_no_function_of_rows_is_used(folder: Path, spark: SparkSession, way: Any) -> None:
    """The function is of the kind that gets an iterator of batches, never Spark's Arrow-optimised one of single rows,
    which hangs on 4.2.0.
    """  # noqa: D205  one sentence
    # Spark's numbers of the kinds; 100 and 101 are those of functions of single rows.
    scored: Any = score_udf(folder / "bundle", way=way)
    assert scored.evalType == {"arrow": 251, "pandas": 204}[way]


def test_only_the_columns_that_are_needed_go_to_the_workers(rows: DataFrame, folder: Path) -> None:
    """Of a wide table, what the bundle reads and what is handed through crosses to Python, and no other column."""
    wide = rows.withColumns({f"x{at}": functions.rand() for at in range(5)})
    any_frame: Any = score(wide, folder / "bundle", passthrough=["x0", "id"])
    plan = any_frame._jdf.queryExecution().optimizedPlan().toString()
    [project] = [line for line in plan.splitlines() if " AS c0#" in line]
    assert project.count(" AS c") == 7
    assert "x1" not in project


def test_tasks_give_iterators() -> None:
    """What runs on a worker is a generator, so rows go back while others come, and no partition is held as a whole."""
    tasks = (frames._run, udf._scored, udf._scored_by_pandas, streaming.scored_batches)
    assert all(inspect.isgeneratorfunction(task) for task in tasks)


def test_no_list_goes_through_python_objects() -> None:
    """On the way of Arrow no column is made into Python values or pandas."""
    source = "".join(Path(inspect.getfile(module)).read_text() for module in (frames, streaming))
    source += inspect.getsource(udf._scored) + inspect.getsource(udf._named) + inspect.getsource(udf._struct)
    assert not re.search(r"to_pylist|to_pandas|tolist|as_py", source)


WIDE_SPEC = """
format: scorespec/1
spec_id: wide
input: {fields: [{name: x, type: "float32[4]", nullable: false}]}
outputs: {tensors: [{tensor: X, from: [x]}]}
"""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A bundle of a model with an output of 784 values a row, one of 2 × 3, and one number."""
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["wide"]),
        helper.make_node("MatMul", ["X", "V"], ["flat"]),
        helper.make_node("Reshape", ["flat", "axes"], ["grid"]),
        helper.make_node("ReduceSum", ["X", "one"], ["total"], keepdims=0),
    ]
    outputs = {"wide": [None, 784], "grid": [None, 2, 3], "total": [None]}
    model = model_of(
        nodes,
        {"X": (TensorProto.FLOAT, [None, 4])},
        {name: (TensorProto.FLOAT, shape) for name, shape in outputs.items()},
        W=rng.normal(size=(4, 784)).astype(np.float32),
        V=rng.normal(size=(4, 6)).astype(np.float32),
        axes=np.array([-1, 2, 3], dtype=np.int64),
        one=np.array([1], dtype=np.int64),
    )
    place = tmp_path_factory.mktemp("wide")
    columns = [OutputColumn(column=name, tensor=name, type="float32") for name in outputs]
    golden = pa.table({"x": pa.array([[1.0, 2.0, 3.0, 4.0]], pa.list_(pa.float32()))})
    create_bundle(STORE, str(place / "bundle"), parts_of(WIDE_SPEC, model, golden, columns))
    return place, model


def vectors() -> tuple[pa.Table, list[int]]:
    """Rows of four numbers, but for some: the first is null, one is too short, one has a null inside."""
    values: list[Any] = np.random.default_rng(5).normal(size=(60, 4)).astype(np.float32).tolist()
    values[0], values[7], values[31] = None, values[7][:3], [None, *values[31][1:]]
    return pa.table({"id": np.arange(60), "x": pa.array(values, pa.list_(pa.float32()))}), [0, 7, 31]


def test_wide_and_nested_outputs_are_lists(spark: SparkSession, wide: tuple[Path, bytes], ragged: int) -> None:
    """Outputs of 784 and of 2 × 3 values are lists of Spark with the values of onnxruntime; a row that is null, too
    short or has a null inside is null in each, wherever in a batch it stands.
    """  # noqa: D205  one sentence
    place, model = wide
    table, bad = vectors()
    pq.write_table(table, place / "vectors.parquet")
    df = spark.read.parquet(str(place / "vectors.parquet")).coalesce(1)
    whole = np.array([row for row in range(60) if row not in bad])
    feed = np.array([table.column("x")[row].as_py() for row in whole], dtype=np.float32)
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs = dict(zip(("wide", "grid", "total"), session.run(["wide", "grid", "total"], {"X": feed}), strict=True))
    ways = [df.select("id", score_udf(place / "bundle", way=way)().alias("s")).select("id", "s.*") for way in WAYS]
    for scored in [*ways, score(df, place / "bundle", passthrough=["id"])]:
        got = arrow_of(scored).sort_by("id")
        assert got.num_rows == 60
        for name, want in outputs.items():
            column = got.column(name)
            assert np.flatnonzero(column.is_null().to_numpy()).tolist() == bad
            np.testing.assert_allclose(np.array(column.drop_null().to_pylist(), np.float32), want, rtol=1e-6, atol=1e-6)


def test_a_model_is_loaded_once_a_worker(spark: SparkSession, tmp_path: Path) -> None:
    """Twelve tasks of six queries load a bundle no more often than there are workers, which keep it."""
    bundle = lookup_bundle(tmp_path / "bundle")
    df = spark.range(0, 40, 1, 2).selectExpr("id % 4 AS index", "id")
    scored = score_udf(bundle)

    def loads() -> dict[int, int]:
        def told(batches):
            import os

            for _ in batches:
                yield pa.RecordBatch.from_pydict({"pid": [os.getpid()], "loads": [loads_so_far()]})

        probe = spark.range(0, 4, 1, 4).mapInArrow(told, "pid long, loads long")
        return {row["pid"]: row["loads"] for row in probe.collect()}

    before = loads()
    for _ in range(6):
        assert len(df.select(scored("index", "id")).collect()) == 40
    gained = {pid: count - before.get(pid, count - 1) for pid, count in loads().items()}
    assert set(gained.values()) <= {0, 1}
    assert 1 in gained.values()


def test_a_preview_ends(rows: DataFrame, folder: Path) -> None:
    """A query that wants a few rows of many gets them, though the engine reads ahead of it, and so does the next."""
    scored = score(rows.coalesce(1), folder / "bundle", options=ScoreOptions(batch_rows=2, table_rows=2))
    for _ in range(2):
        assert len(scored.limit(3).collect()) == 3
    assert near(found(scored), expected())


def test_nothing_that_is_loaded_is_pickled(folder: Path, spark: SparkSession) -> None:
    """What a task is told is a few kilobytes of texts, whatever the size of the model."""
    import pickle

    scored: Any = score_udf(folder / "bundle")
    [task] = [cell.cell_contents for cell in scored.func.__closure__]
    assert len(pickle.dumps(task)) < 4000
    assert pickle.loads(pickle.dumps(task.work)) == task.work


def test_a_refused_row_fails_the_query_where_it_is_asked_to(rows: DataFrame, folder: Path) -> None:
    """With `fail` the query ends with what is wrong, where, and what to do, and without a value of the row."""
    in_order = rows.sparkSession.read.parquet(str(folder / "rows.parquet")).coalesce(1)
    scored = in_order.select(score_udf(folder / "bundle", on_bad_row="fail")())
    with pytest.raises(PySparkException) as caught:
        scored.collect()
    assert cause_of(str(caught.value)) == (
        "scoring.errors.RowsRefused: the columns of score_udf: 3 of 250 rows of a batch have no score, the first one: "
        "OUT_OF_RANGE: f2 is above 100.0 (/input/fields/2/range). Mend the rows, or let them have null: "
        "on_bad_row='null'"
    )
    assert score(rows, folder / "bundle", on_bad_row="drop").count() == ROWS - len(BAD)


def test_a_device_that_is_not_there_is_an_error(rows: DataFrame, folder: Path) -> None:
    """A GPU that was asked for and is not there fails the query, and no worker falls back to its CPU unseen."""
    scored = score(rows.limit(1), folder / "bundle", options=ScoreOptions(device="cuda"))
    with pytest.raises(PySparkException) as caught:
        scored.collect()
    assert cause_of(str(caught.value)).startswith("scoring.errors.DeviceError: ")


def test_a_model_that_fails_on_a_row_costs_that_row(spark: SparkSession, tmp_path: Path) -> None:
    """The model fails on two rows of a batch: these are null with the model's reason, all others have their scores."""
    lookup_bundle(tmp_path / "bundle")
    df = spark.range(0, 200, 1, 2).selectExpr("IF(id IN (5, 150), 99, id % 4) AS index", "id")
    told = {row["id"]: row for row in score(df, tmp_path / "bundle").collect()}
    assert {key for key, row in told.items() if row["p"] is None} == {5, 150}
    assert told[5]["rejected"].startswith("MODEL_FAILED: ")
    assert all(row["p"] == (key % 4 + 1) / 4 for key, row in told.items() if key not in {5, 150})


def test_a_shared_folder_and_a_sent_archive_give_the_same(
    rows: DataFrame, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle that is put into a folder for all, or sent as an archive with our code, scores as one that is here."""
    shared = score(rows, folder / "bundle", shared=str(tmp_path / "shared"))
    assert (tmp_path / "shared").is_dir()
    assert near(found(shared), expected())
    from scoring.spark import shipping

    monkeypatch.setattr(shipping, "is_on_one_machine", lambda _: False)
    monkeypatch.setattr(shipping, "send_code", lambda *_: None)  # the session's workers go on to run this checkout
    work = streaming.work_for(
        rows.sparkSession,
        lookup_bundle(tmp_path / "other"),
        {},
        options=None,
        on_bad_row="null",
        shared=None,
    )
    assert work.place.root is None
    df = rows.sparkSession.range(0, 8, 1, 2).selectExpr("id % 4 AS index", "id")
    assert [row["p"] for row in score(df, tmp_path / "other").sort("id").collect()] == [0.25, 0.5, 0.75, 1.0] * 2


def test_what_cannot_work_is_refused_before_it_runs(rows: DataFrame, folder: Path) -> None:
    """What is wrong with a call is told where it is made, not by a task."""
    bundle = folder / "bundle"
    with pytest.raises(ContractError, match="takes the 6 columns f0, f1, f2, f3, id, name in this order"):
        score_udf(bundle)("f0", "f1")
    with pytest.raises(SpecError, match=r"column 'nam' is not there\. Did you mean"):
        score(rows, bundle, passthrough=["nam"])
    with pytest.raises(ContractError, match="column 'f1' is not there"):
        score(rows.drop("f1"), bundle)
    with pytest.raises(BundleError, match="columns collide: P, p would"):
        score(rows.withColumn("P", rows.f0), bundle)
    with pytest.raises(SpecError, match="joins no table 't'"):
        score(rows, bundle, {"t": pa.table({})})
    with pytest.raises(BundleError, match=r"there is no bundle\.json here"):
        score(rows, folder)
