"""Jobs that replace what is published, or parts of it; the way back; and what is removed after."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from etl.errors import Superseded
from etl.runs.layout import Layout
from etl.runs.local import LocalStorage
from etl.runs.manifest import latest_manifest
from jobs.cli import app
from jobs.config.job import read_config
from jobs.errors import Refused
from jobs.record import RunRecord, RunState
from jobs.results import open_results
from jobs.run import RunRequest, run
from jobs.settling.garbage import Keeping, Root, collect
from tests.numbers_job import logistic_scores, write_numbers

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tests.numbers_job import JobWriter

ROWS = 400
DAYS = [dt.date(2026, 11, 1), dt.date(2026, 11, 2), dt.date(2026, 11, 3)]


def write_days(folder: Path, days: list[dt.date], *, seed: int = 7, **columns: list[Any]) -> pa.Table:
    """The input of a job: rows of these days, in turn, in two files."""
    table = write_numbers(folder, files=2, rows=ROWS // 2, row_group=70, seed=seed)
    told = {"day": [days[number % len(days)] for number in range(ROWS)], **columns}
    for name, values in told.items():
        table = table.append_column(name, pa.array(values))
    for number in range(2):
        pq.write_table(table.slice(number * ROWS // 2, ROWS // 2), folder / f"part-{number}.parquet", row_group_size=70)
    return table


def start(job: Path, run_id: str) -> RunRecord:
    """Run in this process."""
    return run(RunRequest(config=read_config(str(job)), run_id=run_id))


def output_of(tmp_path: Path, **more: Any) -> dict[str, Any]:
    """The section of a job over days."""
    return {"uri": str(tmp_path / "out"), "passthrough": ["id", "day"], **more}


def published(root: Path, seq: int | None = None) -> dict[tuple[dt.date, int], float]:
    """Scores by day and id, as `open_results` gives them; fails on one that is there twice."""
    rows = open_results(str(root), seq=seq).arrow().to_pylist()
    found = {(row["day"], row["id"]): row["p"] for row in rows}
    assert len(found) == len(rows)
    return found


def oracle(table: pa.Table) -> dict[tuple[dt.date, int], float]:
    """The same by numpy, from the input."""
    scores = logistic_scores(table)
    return {(row["day"], row["id"]): scores[row["id"]] for row in table.select(["day", "id"]).to_pylist()}


def test_only_the_days_of_a_run_are_replaced(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """A second run over one day replaces that day; arrow, a dataset, pandas, Spark and `head` see each row once, with
    its day as a date, and the version before is whole still.
    """  # noqa: D205  one sentence
    shape = {"mode": "overwrite_partitions", "partition_by": ["day"], "sort_by": ["p"]}
    job = job_file(output=output_of(tmp_path, **shape))
    first = oracle(write_days(tmp_path / "in", DAYS))
    assert start(job, "first").state is RunState.SUCCEEDED
    second = oracle(write_days(tmp_path / "in", DAYS[1:2], seed=8))
    assert start(job, "second").state is RunState.SUCCEEDED
    wanted = {key: score for key, score in first.items() if key[0] != DAYS[1]} | second
    root = tmp_path / "out"
    assert published(root) == pytest.approx(wanted, abs=1e-6)
    assert published(root, seq=1) == pytest.approx(first, abs=1e-6)
    results = open_results(str(root))
    assert results.schema.field("day").type == pa.date32()
    columns = ["day", "id", "p"]
    tables = {
        "dataset": results.dataset().to_table(columns=columns).to_pylist(),
        "pandas": results.pandas(columns).to_dict("records"),
        "spark": [row.asDict() for row in results.spark(spark).select(*columns).collect()],
        "head": results.head(10_000).select(columns).to_pylist(),
        "one day": results.dataset().to_table(filter=ds.field("day") == DAYS[0], columns=columns).to_pylist(),
    }
    for reader, rows in tables.items():
        keys = {key: score for key, score in wanted.items() if reader != "one day" or key[0] == DAYS[0]}
        assert len(rows) == len(keys), reader
        assert {(row["day"], row["id"]): row["p"] for row in rows} == pytest.approx(keys, abs=1e-6), reader
    assert results.arrow(["day"]).num_rows == len(wanted)
    results.verify()
    for path in results.files.column("path").to_pylist():
        scores = pq.ParquetFile(path).read().column("p").to_pylist()
        assert scores == sorted(scores)
    assert not list(root.glob("run_id=*"))


def test_rows_that_no_folder_can_hold_are_set_aside(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """A row whose text can name no folder is quarantined with its reason; all others are published, null too."""
    del spark
    texts = ["de", "", None, "a/b c%", "__HIVE_DEFAULT_PARTITION__"]
    countries = [texts[number % 5] for number in range(ROWS)]
    table = write_days(tmp_path / "in", DAYS, country=countries)
    output = output_of(tmp_path, partition_by=["country"], passthrough=["id", "country"])
    job = job_file(output=output, budgets={"contract": {"max_rows": ROWS}})
    record = start(job, "r")
    assert record.state is RunState.PARTIALLY_SUCCEEDED
    assert record.reasons == {"contract/NO_FOLDER": ROWS // 5 * 2}
    good = [number for number, country in enumerate(countries) if country not in {"", texts[4]}]
    scores = logistic_scores(table)
    rows = open_results(str(tmp_path / "out")).arrow().to_pylist()
    assert {row["id"]: row["country"] for row in rows} == {number: countries[number] for number in good}
    assert {row["id"]: row["p"] for row in rows} == pytest.approx({number: scores[number] for number in good}, abs=1e-6)
    aside = open_results(str(tmp_path / "out")).quarantine().to_pylist()
    assert sorted(row["preview"]["f0"] for row in aside) == sorted(
        row["f0"] for number, row in enumerate(table.to_pylist()) if number not in good
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"partition_by": ["p"]}, "output.partition_by: p is float, and a folder can be named by texts, integers"),
        ({"partition_by": ["dai"]}, "there is no published column 'dai'. Did you mean \"day\""),
        ({"sort_by": ["nobody"]}, "output.sort_by: there is no published column 'nobody'"),
    ],
)
def test_columns_that_cannot_shape_files_are_refused(
    tmp_path: Path, job_file: JobWriter, more: dict[str, Any], message: str
) -> None:
    """Columns that are not published, or that cannot name folders, are refused before work."""
    write_days(tmp_path / "in", DAYS)
    with pytest.raises(Refused, match=message.replace(".", r"\.")):
        start(job_file(output=output_of(tmp_path, **more)), "r")


def test_the_way_back(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """After a rollback readers have the scores of the older version; the run that was rolled back stays so when its id
    is run again, and `versions` tells all of it.
    """  # noqa: D205  one sentence
    del spark
    job, root = job_file(output=output_of(tmp_path, mode="overwrite")), tmp_path / "out"
    first = oracle(write_days(tmp_path / "in", DAYS))
    start(job, "first")
    second = oracle(write_days(tmp_path / "in", DAYS, seed=9))
    start(job, "second")
    assert published(root) == pytest.approx(second, abs=1e-6)
    told = CliRunner().invoke(app, ["rollback", str(job), "--to", "1", "--reason", "wrong model"])
    assert (told.exit_code, told.stdout.strip()) == (0, f"version 3 holds what version 1 held: {ROWS} rows of 1 run")
    assert published(root) == pytest.approx(first, abs=1e-6)
    again = CliRunner().invoke(app, ["run", str(job), "--run-id", "second"])
    assert again.exit_code == 0, again.output
    assert "The newest version, 3 (rollback by " in again.output
    assert "), does not hold this run." in again.output
    asked = CliRunner().invoke(app, ["results", str(job), "second"])
    assert asked.exit_code == 2
    assert "the newest version holds it no more. It came with version 2; see --version." in asked.output
    shown = CliRunner().invoke(app, ["results", str(job), "second", "--version", "2", "-n", "1"])
    assert (shown.exit_code, f"of {ROWS} rows of version 2" in shown.output) == (0, True)
    assert published(root) == pytest.approx(first, abs=1e-6)
    told = CliRunner().invoke(app, ["versions", str(root), "--json"])
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert [(line["seq"], line["operation"], line["committed_by"]) for line in lines[1:]] == [
        (2, "overwrite", "second"),
        (1, "overwrite", "first"),
    ]
    assert (lines[0]["operation"], lines[0]["restores"], lines[0]["reason"]) == ("rollback", 1, "wrong model")
    refused = CliRunner().invoke(app, ["rollback", str(job), "--to", "9", "--reason", "x"])
    assert refused.exit_code == 2
    assert "version 9 is none of those to go back to, 1 to 2" in refused.output


def test_what_older_versions_hold_is_collected(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """`gc --dry-run` shows and removes nothing; `gc` removes the files of older versions, the models of their runs
    and old trials, and leaves the newest version and all records.
    """  # noqa: D205  one sentence
    del spark
    job, root = job_file(output=output_of(tmp_path, mode="overwrite")), tmp_path / "out"
    scores = {}
    for number in range(3):
        scores = oracle(write_days(tmp_path / "in", DAYS, seed=number))
        start(job, f"run-{number}")
    run(RunRequest(config=read_config(str(job)), run_id="trial", limit=5))
    before = {path for path in root.rglob("*") if path.is_file()}
    shown = CliRunner().invoke(app, ["gc", str(job), "--keep", "1", "--min-age", "0", "--dry-run"])
    assert shown.exit_code == 0
    assert {path for path in root.rglob("*") if path.is_file()} == before
    done = CliRunner().invoke(app, ["gc", str(job), "--keep", "1", "--min-age", "0"])
    assert done.exit_code == 0
    assert [line.split()[:2] for line in done.stdout.splitlines()[:-1]] == [
        line.split()[:2] for line in shown.stdout.splitlines()[:-1]
    ]
    assert [path.name for path in (root / "_runs").rglob("*.parquet")] == [
        path.name for path in (root / "_runs" / "run_id=run-2").rglob("*.parquet")
    ]
    assert not list((root / "_runs" / "run_id=run-0").rglob("_SUCCESS"))
    assert published(root) == pytest.approx(scores, abs=1e-6)
    assert not (root / "_batchscore" / "scratch" / "trial").exists()
    assert {path.parent.name for path in root.rglob("record.json")} == {"run-0", "run-1", "run-2"}
    shown = CliRunner().invoke(app, ["show", str(job), "run-0"])
    assert (shown.exit_code, "state: SUCCEEDED" in shown.stdout) == (0, True)
    assert CliRunner().invoke(app, ["gc", str(job)]).stdout.strip() == "there is nothing to remove"
    refused = CliRunner().invoke(app, ["results", str(root), "--version", "1"])
    assert refused.exit_code == 2
    assert "version 1 is kept no more" in refused.output


def test_versions_are_kept_as_few_as_asked_for(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """With `keep_versions` each publication removes what only older versions hold."""
    del spark
    job, root = job_file(output=output_of(tmp_path, mode="overwrite", keep_versions=2)), tmp_path / "out"
    write_days(tmp_path / "in", DAYS)
    for number in range(4):
        start(job, f"run-{number}")
    there = {path.parent.name for path in (root / "_runs").rglob("*.parquet")}
    assert there == {"run_id=run-2", "run_id=run-3"}


def test_files_that_vanish_are_scored_again(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """Where pending files are gone before publication, only their splits are scored again, as their next generation;
    the published rows are those of the input, and the record tells it.
    """  # noqa: D205  one sentence
    del spark

    class Stop(BaseException):
        """Leaves the run."""

    def stop(phase: str) -> None:
        if phase == "publish":
            raise Stop

    wanted = oracle(write_days(tmp_path / "in", DAYS))
    job = job_file(output=output_of(tmp_path), splits={"target_bytes": "3KB"})
    with pytest.raises(Stop):
        run(RunRequest(config=read_config(str(job)), run_id="r"), stop)
    pending = sorted((tmp_path / "out").rglob("*.inprogress"))
    assert len(pending) > 3
    gone = [pending[0], pending[-1]]
    for path in gone:
        path.unlink()
    record = start(job, "r")
    assert (record.state, record.void_receipts, record.splits_scored_now) == (RunState.SUCCEEDED, 2, 2)
    assert published(tmp_path / "out") == pytest.approx(wanted, abs=1e-6)
    folder = ds.dataset(tmp_path / "out" / "run_id=r", format="parquet").to_table()
    assert sorted(folder.column("id").to_pylist()) == sorted(key[1] for key in wanted)
    layout = Layout(str(tmp_path / "out"), "r")
    names = LocalStorage().names(layout.voids)
    assert [name.partition(".")[0] for name in names] == [path.name.split("-")[1] for path in gone]


def test_files_that_vanish_every_time_end_the_run(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where somebody removes pending files again and again, the run fails and says which, after four tries."""
    del spark
    write_days(tmp_path / "in", DAYS)
    tries: list[str] = []

    def remove(phase: str) -> None:
        if phase == "complete":
            tries.append(phase)
            for path in (tmp_path / "out").rglob("*.inprogress"):
                path.unlink()

    with pytest.raises(Exception, match=r"2 files are lost\. .*its pending file is gone"):
        run(RunRequest(config=read_config(str(job_file(output=output_of(tmp_path)))), run_id="r"), remove)
    assert len(tries) == 4
    assert latest_manifest(LocalStorage(), str(tmp_path / "out")) is None


def test_lists_for_other_engines_follow_the_newest_version(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """The lists below `_symlink_format_manifest` name just the files of the newest version, by folder, also after a
    rollback, and Hive's input format reads the rows of that version by them.
    """  # noqa: D205  one sentence
    shape = {"mode": "overwrite_partitions", "partition_by": ["day"], "symlink_manifest": True}
    job, root = job_file(output=output_of(tmp_path, **shape)), tmp_path / "out"
    write_days(tmp_path / "in", DAYS)
    start(job, "first")
    write_days(tmp_path / "in", DAYS[2:], seed=8)
    start(job, "second")

    def listed() -> dict[str, list[str]]:
        folder = root / "_symlink_format_manifest"
        return {
            str(path.parent.relative_to(folder)): path.read_text().splitlines() for path in folder.rglob("manifest")
        }

    def wanted() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for row in open_results(str(root)).files.to_pylist():
            found.setdefault(row["partition"], []).append(f"file://{row['path']}")
        return found

    assert listed() == wanted()
    assert listed().keys() == {f"day={day}" for day in DAYS}
    read = spark.read.parquet(*[path for paths in listed().values() for path in paths])
    assert sorted(row["id"] for row in read.select("id").collect()) == sorted(key[1] for key in published(root))
    assert CliRunner().invoke(app, ["rollback", str(job), "--to", "1", "--reason", "x"]).exit_code == 0
    assert listed() == wanted()


class Stop(BaseException):
    """Leaves a run."""


def stop_before(phase: str, job: Path, run_id: str) -> None:
    """Leave a run as a death at the border of this phase would."""

    def stop(name: str) -> None:
        if name == phase:
            raise Stop

    with pytest.raises(Stop):
        run(RunRequest(config=read_config(str(job)), run_id=run_id), stop)


def remove_pending(root: Path) -> None:
    """As a rule of a bucket would."""
    for path in root.rglob("*.inprogress"):
        path.unlink()


def test_twins_that_find_files_gone_lose_none(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """Of two drivers of one run that find its files gone, the slower one leaves what the other published as it is."""
    del spark
    wanted = oracle(write_days(tmp_path / "in", DAYS))
    job, root = job_file(output=output_of(tmp_path)), tmp_path / "out"
    stop_before("settle", job, "r")
    remove_pending(root)
    tried: list[str] = []

    def overtake(phase: str) -> None:
        # The slower one has found the files gone, and is about to say so, when it comes here the second time.
        tried.append(phase)
        if phase == "complete" and tried.count("complete") == 1:
            assert start(job, "r").void_receipts == 2

    record = run(RunRequest(config=read_config(str(job)), run_id="r"), overtake)
    assert record.state is RunState.SUCCEEDED
    assert published(root) == pytest.approx(wanted, abs=1e-6)


def test_gc_goes_by_the_versions_that_it_committed(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """A version that `gc` promised to keep is kept although another is published before anything is removed."""
    del spark
    job, root = job_file(output=output_of(tmp_path, mode="overwrite")), tmp_path / "out"
    write_days(tmp_path / "in", DAYS)
    for number in range(3):
        start(job, f"run-{number}")
    kept = published(root, 2)

    class Overtaken(LocalStorage):
        """A store in which another run is published once `gc` has committed."""

        def create_if_absent(self, path: str, data: Any) -> bool:
            made = super().create_if_absent(path, data)
            start(job, "late")
            return made

    keeping = Keeping(versions=2, min_age=timedelta(days=7), scratch=f"{root}.scratch")
    list(collect(Root(Overtaken(), str(root)), keeping, datetime.now(UTC)))
    assert published(root, 2) == kept
    assert CliRunner().invoke(app, ["rollback", str(job), "--to", "2", "--reason", "x"]).exit_code == 0
    assert published(root) == kept


def test_a_run_that_came_too_late_says_so_again(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """A run that is superseded after it died among its completions leaves no file where a listing finds it, scores
    nothing again, and is superseded however often it is tried.
    """  # noqa: D205  one sentence
    del spark
    write_days(tmp_path / "in", DAYS)
    job, root = job_file(output=output_of(tmp_path, mode="error")), tmp_path / "out"
    stop_before("settle", job, "late")
    stop_before("commit", job, "late")
    assert list((root / "run_id=late").glob("part-*.parquet"))
    beside = job_file(output=output_of(tmp_path))
    start(beside, "quick")
    job = job_file(output=output_of(tmp_path, mode="error"))
    for _ in range(2):
        with pytest.raises(Superseded, match="run quick is published here"):
            start(job, "late")
        assert not list((root / "run_id=late").rglob("*.parquet"))


def test_files_that_vanish_behind_their_table_are_scored_again(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """A run whose files vanish after its table of files was written, before the commit, is published all the same."""
    del spark
    wanted = oracle(write_days(tmp_path / "in", DAYS))
    job, root = job_file(output=output_of(tmp_path)), tmp_path / "out"
    table = Path(Layout(str(root), "r").files())

    class Dying(LocalStorage):
        """A store whose driver dies at the commit."""

        def create_if_absent(self, path: str, data: Any) -> bool:
            if "/manifests/" in path:
                raise Stop
            return super().create_if_absent(path, data)

    request = RunRequest(config=read_config(str(job)), run_id="r")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.planning.plan.storage_for", lambda uri: (Dying(), LocalStorage.normalise(uri)))
        with pytest.raises(Stop):
            run(request)
    assert table.exists()
    min((root / "run_id=r").glob("part-*.parquet")).unlink()
    record = start(job, "r")
    assert (record.state, record.void_receipts) == (RunState.SUCCEEDED, 1)
    assert published(root) == pytest.approx(wanted, abs=1e-6)
    assert Path(Layout(str(root), "r").files(1)).exists()


def test_a_run_that_gc_gave_up_needs_a_new_id(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """Files that a dead publisher had shown are removed once nobody came back; the same id is refused, and says so."""
    del spark
    write_days(tmp_path / "in", DAYS)
    job, root = job_file(output=output_of(tmp_path)), tmp_path / "out"
    stop_before("commit", job, "r")
    assert CliRunner().invoke(app, ["gc", str(job)]).stdout.strip() == "there is nothing to remove"
    done = CliRunner().invoke(app, ["gc", str(job), "--min-age", "0"])
    assert "it shows files of no version" in done.stdout
    assert not list((root / "run_id=r").rglob("*.parquet"))
    refused = CliRunner().invoke(app, ["run", str(job), "--run-id", "r"])
    assert refused.exit_code == 2
    assert "run id r was given up (`discard`, or `gc`), and its files with it. Use another --run-id." in refused.output


def test_a_model_that_gc_removed_is_put_back(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """A run whose copy of the model was removed after it was planned goes on."""
    del spark
    wanted = oracle(write_days(tmp_path / "in", DAYS))
    job, root = job_file(output=output_of(tmp_path)), tmp_path / "out"
    stop_before("score", job, "r")
    shutil.rmtree(root / "_batchscore" / "models")
    assert start(job, "r").state is RunState.SUCCEEDED
    assert published(root) == pytest.approx(wanted, abs=1e-6)


def test_a_run_that_waits_and_lost_its_files_can_be_published(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """A run that is held back, and whose files a rule removed, is scored again by the same id and then published."""
    del spark
    table = write_days(tmp_path / "in", DAYS, country=["" if number == 3 else "de" for number in range(ROWS)])
    output = output_of(tmp_path, partition_by=["country"], passthrough=["id", "country"])
    job, root = job_file(output=output), tmp_path / "out"
    assert start(job, "r").state is RunState.HELD_BACK
    remove_pending(root)
    words = ["publish", str(job), "r", "--accept-errors", "1", "--reason", "known"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 1
    assert "Run the same id again, which scores them, then publish." in refused.output
    assert start(job, "r").state is RunState.HELD_BACK
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    scores = logistic_scores(table)
    rows = open_results(str(root)).arrow().to_pylist()
    wanted = {number: scores[number] for number in range(ROWS) if number != 3}
    assert {row["id"]: row["p"] for row in rows} == pytest.approx(wanted, abs=1e-6)


def test_a_folder_that_lost_files_to_gc_is_not_called_whole(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """A run that died before its folder was marked, and that was overwritten and collected since, gets no mark."""
    del spark
    write_days(tmp_path / "in", DAYS)
    job, root = job_file(output=output_of(tmp_path, mode="overwrite")), tmp_path / "out"
    stop_before("mark", job, "one")
    start(job, "two")
    assert CliRunner().invoke(app, ["gc", str(job), "--keep", "1"]).exit_code == 0
    assert start(job, "one").manifest == 1
    assert not (root / "_runs" / "run_id=one" / "_SUCCESS").exists()
    assert open_results(str(root)).run_ids == ("two",)
