"""Published predictions as tables."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from etl.errors import DocumentError, InputChanged, ReadError
from etl.runs.local import LocalStorage
from etl.runs.manifest import ColumnEntry
from jobs.errors import Refused
from jobs.record import RunState
from jobs.results import Results, open_results
from tests.jobs.outputs import BAD_ROWS, ROWS, run_job, write_bad_input, write_input, write_job
from tests.numbers_job import logistic_scores

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession


class Output(NamedTuple):
    """An output with two runs and a trial."""

    job: Path
    folder: Path
    table: pa.Table
    """The input of the first run; the second has the same."""


@pytest.fixture(scope="module")
def output(spark: SparkSession, logistic_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Output:
    """Runs `first` and `second`, one version each, and a trial, under a folder that Hadoop takes for a glob."""
    folder = tmp_path_factory.mktemp("res [1] {a,b}")
    table = write_input(folder)
    job = write_job(folder, logistic_onnx)
    for run_id in ("first", "second"):
        assert run_job(job, run_id).state is RunState.SUCCEEDED
    run_job(job, "trial", limit=10)
    return Output(job, folder / "out", table)


@pytest.fixture
def damaged(output: Output, tmp_path: Path) -> Iterator[Output]:
    """The same output, which a test may damage; it is put right afterwards."""
    whole = output.job.parent
    shutil.copytree(whole, tmp_path / "whole")
    yield output
    shutil.rmtree(whole)
    shutil.copytree(tmp_path / "whole", whole)


@pytest.fixture(scope="module")
def partial(spark: SparkSession, logistic_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Output:
    """A run that set rows aside, and one that is held back for it."""
    folder = tmp_path_factory.mktemp("partial")
    table = write_bad_input(folder)
    job = write_job(folder, logistic_onnx)
    assert run_job(job, "held").state is RunState.HELD_BACK
    write_job(folder, logistic_onnx, budgets={"contract": {"max_rows": 4}})
    assert run_job(job, "partial").state is RunState.PARTIALLY_SUCCEEDED
    return Output(job, folder / "out", table)


def scores(table: pa.Table) -> dict[int, float]:
    """Score by id."""
    return dict(zip(table.column("id").to_pylist(), table.column("p").to_pylist(), strict=True))


def test_a_run_has_the_scores_of_the_oracle(output: Output) -> None:
    """The Arrow table of a run has each id once with the score that numpy computes."""
    found = open_results(str(output.job), "first").arrow()
    assert found.num_rows == 2 * ROWS
    assert scores(found) == pytest.approx(logistic_scores(output.table), abs=1e-6)


def test_all_views_show_the_same_rows(output: Output, spark: SparkSession) -> None:
    """Arrow, pandas, dataset, stream and Spark give the same rows, also where the path looks like a glob."""
    results = open_results(str(output.folder)).run("second")
    expected = scores(results.arrow())
    assert scores(pa.Table.from_pandas(results.pandas())) == expected
    assert scores(results.dataset().to_table()) == expected
    assert scores(pa.Table.from_batches(results.batches())) == expected
    assert {row.id: row.p for row in results.spark(spark).collect()} == expected


def test_spark_infers_no_column_from_the_folders(output: Output, spark: SparkSession) -> None:
    """The Spark view has the published columns, without the `run_id` that its folders carry."""
    assert open_results(str(output.job)).spark(spark).columns == ["id", "p"]


def test_a_version_is_all_its_runs(output: Output) -> None:
    """The newest version holds both runs, oldest first, and an older one stays what it was."""
    newest, older = open_results(str(output.job)), open_results(str(output.job), seq=1)
    assert (newest.run_ids, newest.rows, newest.seq) == (("first", "second"), 4 * ROWS, 2)
    assert (older.run_ids, older.rows, older.seq) == (("first",), 2 * ROWS, 1)
    assert newest.run().run_ids == ("second",)
    assert newest.arrow().num_rows == newest.rows == sum(newest.files.column("rows").to_pylist())


def test_a_trial_is_found_by_its_id(output: Output) -> None:
    """What `--limit` published is no part of the version, and is found by its run id."""
    results = open_results(str(output.job), "trial")
    assert results.rows == 10
    assert results.folders == (f"{output.folder}/_batchscore/scratch/trial/run_id=trial",)


def test_only_named_files_are_read(damaged: Output) -> None:
    """A Parquet file that lies in the folder of a run and is not of its version is not read."""
    path = next((damaged.folder / "run_id=first").glob("*.parquet"))
    shutil.copy(path, path.with_name("part-999999-stray.parquet"))
    assert open_results(str(damaged.job), "first").arrow().num_rows == 2 * ROWS


def test_columns_are_chosen_by_name(output: Output) -> None:
    """A view of some columns has these in the order asked for, and an unknown one is named with its nearest."""
    results = open_results(str(output.job))
    assert results.arrow(["p"]).column_names == ["p"]
    assert results.pandas(["p", "id"]).columns.tolist() == ["p", "id"]
    with pytest.raises(Refused, match=r"no column 'pp'. Did you mean \"p\""):
        results.arrow(["pp"])


@pytest.mark.parametrize("rows", [0, 1, ROWS + 7, 10 * ROWS])
def test_head_gives_the_first_rows(output: Output, rows: int) -> None:
    """The head is the beginning of the whole table, as far as that goes."""
    results = open_results(str(output.job))
    assert results.head(rows).equals(results.arrow().slice(0, rows))


def test_a_missing_file_is_an_error(damaged: Output) -> None:
    """A version of which a file is gone does not open; the message names the file."""
    path = next((damaged.folder / "run_id=first").glob("*.parquet"))
    path.unlink()
    with pytest.raises(ReadError, match=f"{path.name} is gone"):
        open_results(str(damaged.job))


def test_a_shortened_file_is_an_error(damaged: Output) -> None:
    """A version of which a file has another size does not open."""
    path = next((damaged.folder / "run_id=first").glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ReadError, match=r"bytes, [0-9]+ were committed"):
        open_results(str(damaged.job))


def test_verify_compares_rows_with_the_commit(damaged: Output) -> None:
    """A file that has other rows than were committed is found by its footer."""
    results = open_results(str(damaged.job))
    results.verify()
    path = next((damaged.folder / "run_id=first").glob("*.parquet"))
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(ReadError, match=f"{path.name} has {ROWS - 1} rows, {ROWS} were committed"):
        results.verify()


def test_nothing_published_is_refused(tmp_path: Path, output: Output) -> None:
    """An empty folder, an unknown run and an unknown version are refused, each in its own words."""
    with pytest.raises(Refused, match="nothing is published here"):
        open_results(str(tmp_path))
    with pytest.raises(Refused, match=r"there is no run 'frist'. Did you mean \"first\""):
        open_results(str(output.job), "frist")
    with pytest.raises(Refused, match="no version 7; the newest is 2"):
        open_results(str(output.job), seq=7)
    with pytest.raises(Refused, match="version 1 does not hold it"):
        open_results(str(output.job), "second", seq=1)
    with pytest.raises(Refused, match="version 2 holds no run 'thrid'"):
        open_results(str(output.job)).run("thrid")


def test_a_run_that_is_held_back_has_no_results(partial: Output) -> None:
    """A run that is held back is not among the published, and the message says what it is."""
    with pytest.raises(Refused, match="run held is HELD_BACK"):
        open_results(str(partial.job), "held")
    assert open_results(str(partial.job)).run_ids == ("partial",)


def test_rows_set_aside_are_shown_with_place_and_reason(partial: Output) -> None:
    """The quarantine of a run has each bad row with file, row and code, and the others are published."""
    results = open_results(str(partial.job))
    bad = results.quarantine()
    places = {(row["file"].rpartition("/")[2], row["row"]) for row in bad.to_pylist()}
    assert places == {(f"part-{number}.parquet", row) for number in (0, 1) for row in BAD_ROWS}
    assert set(bad.column("code").to_pylist()) == {"MISSING"}
    assert scores(results.arrow()) == pytest.approx(logistic_scores(partial.table), abs=1e-6)
    assert results.record().account.quarantined.rows == bad.num_rows == 4


def test_a_run_without_bad_rows_has_an_empty_quarantine(output: Output) -> None:
    """The quarantine of a clean run is a table without rows that has the columns to group by."""
    bad = open_results(str(output.job)).quarantine("first")
    assert bad.num_rows == 0
    assert {"file", "row", "stage", "code", "message"} <= set(bad.column_names)


def test_the_input_of_a_run_can_be_joined(damaged: Output) -> None:
    """`inputs` gives any columns of the very files that were scored, and refuses a file that was replaced since."""
    results = open_results(str(damaged.job), "first")
    joined = results.arrow().join(results.inputs(["id", "f2"]), "id")
    assert joined.num_rows == 2 * ROWS
    assert joined.column("f2").null_count == 0
    write_input(damaged.job.parent)
    with pytest.raises(InputChanged, match="was replaced"):
        results.inputs(["id"])


@pytest.mark.parametrize("name", ["x.parquet", "x.csv", "x.arrow", "X.CSV"])
def test_an_export_holds_all_rows(output: Output, tmp_path: Path, name: str) -> None:
    """An exported file of either kind has the rows of the version, and nothing else is left behind."""
    results = open_results(str(output.job))
    assert results.export(str(tmp_path / name)) == results.rows
    read = {"parquet": pq.read_table, "csv": csv.read_csv, "arrow": lambda path: pa.ipc.open_file(path).read_all()}
    found = read[name.rpartition(".")[2].lower()](str(tmp_path / name))
    assert found.column("id").to_pylist() == results.arrow().column("id").to_pylist()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_export_is_refused_with_the_reason(output: Output, tmp_path: Path) -> None:
    """Another ending, a missing folder and lists in a CSV are refused before anything is written."""
    results = open_results(str(output.job))
    with pytest.raises(Refused, match=r".parquet, .csv or .arrow"):
        results.export(str(tmp_path / "x.xlsx"))
    with pytest.raises(Refused, match="its folder is not there"):
        results.export(str(tmp_path / "no" / "x.csv"))
    columns = (ColumnEntry(name="v", type="list<item: float>"),)
    lists = Results(LocalStorage(), results.root, results.manifest.model_copy(update={"columns": columns}))
    with pytest.raises(Refused, match="CSV holds no lists, and v is one"):
        lists.export(str(tmp_path / "x.csv"))
    assert not list(tmp_path.iterdir())


def test_a_version_without_rows_is_an_empty_table(output: Output, spark: SparkSession) -> None:
    """A version that holds no file has all columns and no row, in Arrow and in Spark."""
    nothing = output_without_runs(output)
    assert nothing.arrow().schema.names == ["id", "p"]
    assert nothing.head(3).num_rows == nothing.pandas().shape[0] == nothing.spark(spark).count() == 0
    assert nothing.spark(spark).columns == ["id", "p"]


def test_a_type_of_a_newer_release_is_named(output: Output) -> None:
    """A column type that this release does not know is an error that says so, not a guess."""
    results = output_without_runs(output)
    columns = (ColumnEntry(name="v", type="decimal256(3, 1)"),)
    newer = Results(LocalStorage(), results.root, results.manifest.model_copy(update={"columns": columns}))
    with pytest.raises(DocumentError, match="decimal256"):
        newer.arrow()


def output_without_runs(output: Output) -> Results:
    """A version that restored the emptiness before the first run."""
    results = open_results(str(output.job))
    return Results(LocalStorage(), results.root, results.manifest.model_copy(update={"runs": ()}))
