"""Jobs that score what is new: files that no run of the newest version scored, and rows whose key is not published."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from etl.errors import Superseded
from jobs.cli import app
from jobs.config.job import read_config
from jobs.errors import ConfigError, Refused
from jobs.record import RunRecord, RunState
from jobs.results import open_results
from jobs.run import RunRequest, run
from tests.numbers_job import logistic_scores, write_numbers

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tests.numbers_job import JobWriter

ROWS = 50


def put(folder: Path, name: str, first: int, *, seed: int = 7) -> pa.Table:
    """A file of rows whose ids begin at a number."""
    with tempfile.TemporaryDirectory() as made:
        table = write_numbers(Path(made), files=1, rows=ROWS, row_group=20, seed=seed)
    table = table.set_column(0, "id", pa.array(range(first, first + ROWS), pa.int64()))
    folder.mkdir(exist_ok=True)
    # What is written at one moment over files of one size has one etag, so it comes from elsewhere.
    pq.write_table(table, folder / f".{name}")
    os.replace(folder / f".{name}", folder / name)  # noqa: PTH105  as a loader does it
    return table


def start(job: Path, run_id: str, **more: Any) -> RunRecord:
    """Run in this process."""
    return run(RunRequest(config=read_config(str(job)), run_id=run_id, **more))


def published(tmp_path: Path) -> dict[int, float]:
    """Scores by id; fails on one that is there twice."""
    rows = open_results(str(tmp_path / "out")).arrow(["id", "p"]).to_pylist()
    found = {row["id"]: row["p"] for row in rows}
    assert len(found) == len(rows)
    return found


def oracle(*tables: pa.Table) -> Any:
    """The same by numpy."""
    return pytest.approx({key: score for table in tables for key, score in logistic_scores(table).items()}, abs=1e-6)


@pytest.fixture
def job(tmp_path: Path, job_file: JobWriter) -> Path:
    """An incremental job."""
    return job_file(input={"files": str(tmp_path / "in"), "incremental": True})


def test_only_new_files_are_scored(spark: SparkSession, tmp_path: Path, job: Path) -> None:
    """Night after night the files that came since are scored, once each; a night without any publishes none and is a
    success; the record tells how many there were.
    """  # noqa: D205  one sentence
    del spark
    tables = [put(tmp_path / "in", "a.parquet", 0)]
    first = start(job, "night-1")
    assert first.increment is not None
    assert (first.increment.listed, first.increment.scored_before, first.account.scored.rows) == (1, 0, ROWS)
    tables += [
        put(tmp_path / "in", f"{name}.parquet", ROWS * number, seed=number) for number, name in ((1, "0"), (2, "b"))
    ]
    second = start(job, "night-2")
    assert second.increment is not None
    assert (second.increment.listed, second.increment.scored_before, second.account.scored.rows) == (3, 1, 2 * ROWS)
    third = start(job, "night-3")
    assert (third.state, third.splits, third.account.rows_in.rows) == (RunState.SUCCEEDED, 0, 0)
    assert published(tmp_path) == oracle(*tables)
    (tmp_path / "in" / "c.parquet").write_bytes((tmp_path / "in" / "b.parquet").read_bytes())
    assert start(job, "night-3").state is RunState.SUCCEEDED
    assert len(published(tmp_path)) == 3 * ROWS


def test_what_was_rolled_back_is_scored_again(spark: SparkSession, tmp_path: Path, job: Path) -> None:
    """Files of a run that the newest version does not hold are new; a dead run's files are, too."""
    del spark

    class Stop(BaseException):
        """Leaves the run."""

    def stop(phase: str) -> None:
        if phase == "publish":
            raise Stop

    tables = [put(tmp_path / "in", "a.parquet", 0)]
    start(job, "one")
    tables.append(put(tmp_path / "in", "b.parquet", ROWS, seed=8))
    start(job, "two")
    assert CliRunner().invoke(app, ["rollback", str(job), "--to", "1", "--reason", "x"]).exit_code == 0
    with pytest.raises(Stop):
        run(RunRequest(config=read_config(str(job)), run_id="dead"), stop)
    third = start(job, "three")
    assert third.increment is not None
    assert (third.increment.scored_before, third.account.scored.rows) == (1, ROWS)
    assert published(tmp_path) == oracle(*tables)
    with pytest.raises(Superseded, match=r"1 file was scored and published by another run meanwhile, .*b\.parquet"):
        start(job, "dead")


def test_another_job_and_another_model_score_all(
    spark: SparkSession, tmp_path: Path, job: Path, job_file: JobWriter
) -> None:
    """What another job, or another model, scored into the same place is new to this one."""
    del spark
    put(tmp_path / "in", "a.parquet", 0)
    start(job, "one")
    other = job_file(name="other", input={"files": str(tmp_path / "in"), "incremental": True})
    assert start(other, "two").account.scored.rows == ROWS


@pytest.mark.parametrize("policy", ["fail", "ignore", "score"])
def test_a_changed_file_is_handled_as_asked(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter, policy: str
) -> None:
    """A file that was scored and is another now fails the run with its name, is left, or is scored again."""
    del spark
    old = put(tmp_path / "in", "a.parquet", 0)
    job = job_file(input={"files": str(tmp_path / "in"), "incremental": True, "on_changed": policy})
    start(job, "one")
    new = put(tmp_path / "in", "a.parquet", ROWS, seed=8)
    if policy == "fail":
        with pytest.raises(Refused, match=r"a\.parquet was changed after it was scored.*input\.on_changed"):
            start(job, "two")
        assert published(tmp_path) == oracle(old)
        return
    record = start(job, "two")
    assert record.increment is not None
    assert record.increment.changed == (str(tmp_path / "in" / "a.parquet"),)
    assert published(tmp_path) == oracle(*([old] if policy == "ignore" else [old, new]))
    again = start(job, "three").increment
    assert again is not None
    assert (again.scored_before, len(again.changed)) == ((0, 1) if policy == "ignore" else (1, 0))


@pytest.mark.parametrize("policy", ["ignore", "fail"])
def test_a_deleted_file_is_handled_as_asked(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter, policy: str
) -> None:
    """A file that was scored and is gone is told in the record, or fails the run with its name."""
    del spark
    put(tmp_path / "in", "a.parquet", 0)
    put(tmp_path / "in", "b.parquet", ROWS)
    job = job_file(input={"files": str(tmp_path / "in"), "incremental": True, "on_deleted": policy})
    start(job, "one")
    (tmp_path / "in" / "a.parquet").unlink()
    if policy == "fail":
        with pytest.raises(Refused, match=r"a\.parquet is gone after it was scored"):
            start(job, "two")
        return
    found = start(job, "two").increment
    assert found is not None
    assert found.deleted == (str(tmp_path / "in" / "a.parquet"),)


def test_two_runs_at_once_do_not_publish_a_file_twice(spark: SparkSession, tmp_path: Path, job: Path) -> None:
    """Of two runs that found the same new file the later one is superseded, and says which file; nothing is doubled."""
    del spark
    table = put(tmp_path / "in", "a.parquet", 0)

    def overtake(phase: str) -> None:
        if phase == "commit":
            start(job, "quick")

    with pytest.raises(Superseded, match=r"1 file was scored and published by another run meanwhile, .*a\.parquet"):
        run(RunRequest(config=read_config(str(job)), run_id="slow"), overtake)
    assert published(tmp_path) == oracle(table)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"input": {"sql": "select 1", "incremental": True}}, "`incremental` goes with `files`"),
        (
            {"input": {"files": "in", "on_changed": "score"}},
            "`on_changed` and `on_deleted` go with `incremental",
        ),
        (
            {"input": {"files": "in", "incremental": True}, "output": {"uri": "out", "mode": "overwrite"}},
            "goes with `output.mode: append`; overwrite would lose what was scored before",
        ),
    ],
)
def test_what_cannot_be_done_by_increments_is_refused(
    job_file: JobWriter, sections: dict[str, Any], message: str
) -> None:
    """Settings that make no sense together are refused with the reason."""
    with pytest.raises(ConfigError, match=message):
        read_config(str(job_file(**sections)))


def test_only_rows_with_new_keys_are_scored(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """Of an input with rows that came late only those are scored whose key is not published, whatever file they are
    in; all others are counted as filtered.
    """  # noqa: D205  one sentence
    del spark
    job = job_file()
    early = put(tmp_path / "in", "a.parquet", 0)
    start(job, "one")
    late = write_numbers(tmp_path / "made", files=1, rows=300, row_group=100, seed=9)
    late = late.append_column("kept", pa.array([number >= ROWS for number in range(300)]))
    order = list(range(300))
    random.Random(0).shuffle(order)  # noqa: S311  the order is the same in every run of the tests
    late = late.take(pa.array(order)).set_column(0, "id", late.take(pa.array(order)).column("id").cast(pa.int32()))
    pq.write_table(late.drop_columns(["kept"]), tmp_path / "in" / "b.parquet", row_group_size=40)
    done = CliRunner().invoke(app, ["run", str(job), "--run-id", "late", "--missing-keys", "id"])
    assert done.exit_code == 0, done.output
    record = open_results(str(tmp_path / "out")).record("late")
    account = record.account
    assert (account.rows_in.rows, account.scored.rows, account.filtered.rows) == (350, 250, 100)
    scores = logistic_scores(late)
    wanted = {**logistic_scores(early), **{key: scores[key] for key in range(ROWS, 300)}}
    assert published(tmp_path) == pytest.approx(wanted, abs=1e-6)


def test_keys_that_are_not_published_are_refused(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """Before anything is published, of a column that is not, and of more keys than a worker shall hold: refused."""
    del spark
    put(tmp_path / "in", "a.parquet", 0)
    job = job_file()
    with pytest.raises(Refused, match=r"nothing is published here, so no key is\. Leave --missing-keys out"):
        start(job, "r", missing_keys="id")
    start(job, "one")
    with pytest.raises(Refused, match=r"output\.passthrough does not publish 'f0'"):
        start(job, "two", missing_keys="f0")
    small = job_file(scoring={"reference_bytes": "100B"})
    with pytest.raises(Refused, match=r"holds 50 keys of 0 MB.*scoring\.reference_bytes allows 0 MB"):
        start(small, "three", missing_keys="id")


def test_keys_that_were_published_meanwhile_are_not_doubled(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """A run by missing keys is superseded where another one published after the keys were read."""
    del spark
    job = job_file()
    early = put(tmp_path / "in", "a.parquet", 0)
    start(job, "one")
    late = put(tmp_path / "in", "b.parquet", ROWS, seed=8)

    def overtake(phase: str) -> None:
        if phase == "commit":
            start(job, "quick", missing_keys="id")

    with pytest.raises(Superseded, match="quick committed version 2 after the published keys were read"):
        run(RunRequest(config=read_config(str(job)), run_id="slow", missing_keys="id"), overtake)
    assert published(tmp_path) == oracle(early, late)


def test_what_was_held_back_and_mended_is_not_published_twice(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """A run that is held back over a bad row is superseded once another run published the mended file."""
    del spark
    job = job_file(input={"files": str(tmp_path / "in"), "incremental": True})
    put(tmp_path / "in", "a.parquet", 0)
    bad = pq.read_table(tmp_path / "in" / "a.parquet")
    values = [None, *bad.column("f0").to_pylist()[1:]]
    pq.write_table(bad.set_column(1, "f0", pa.array(values, pa.float32())), tmp_path / "in" / "a.parquet")
    assert start(job, "held").state is RunState.HELD_BACK
    mended = put(tmp_path / "in", "a.parquet", 0)
    start(job, "mended")
    words = ["publish", str(job), "held", "--accept-errors", "1", "--reason", "known"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 4
    assert "1 file was scored and published by another run meanwhile" in refused.output
    assert published(tmp_path) == oracle(mended)


def test_nights_go_on_past_a_file_that_is_damaged(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """A night whose only new file is damaged sets it aside, night after night, until it is mended and scored."""
    first = put(tmp_path / "in", "a.parquet", 0)
    told = {"files": str(tmp_path / "in"), "incremental": True, "on_damaged": "quarantine", "on_changed": "score"}
    job = job_file(input=told)
    assert start(job, "one").state is RunState.SUCCEEDED
    damaged = tmp_path / "in" / "b.parquet"
    damaged.write_bytes(b"PAR1 is all that it has of a file")
    for run_id in ("two", "three"):
        record = start(job, run_id)
        assert record.state is RunState.PARTIALLY_SUCCEEDED
        assert [one.file.path for one in record.damaged] == [str(damaged)]
        assert published(tmp_path) == oracle(first)
    second = put(tmp_path / "in", "b.parquet", 100)
    assert start(job, "four").state is RunState.SUCCEEDED
    assert published(tmp_path) == oracle(first, second)
