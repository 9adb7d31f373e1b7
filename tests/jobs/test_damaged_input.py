"""Input files that cannot be read: what each policy makes of a run, against a read of the input when it was whole."""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs import cli
from jobs.config.job import read_config
from jobs.errors import ConfigError, ExitCode, InputUnfit, Refused, SplitsFailed, exit_code
from jobs.history.runs import find_run
from jobs.planning.plan import load_plan
from jobs.record import RunState, load_record
from jobs.results import open_results
from jobs.run import RunRequest, run
from jobs.settling.damage import what_is_left
from jobs.settling.decisions import publish_run
from scoring.spark.tasks import Failure, run_tasks
from tests.numbers_job import FEATURES, logistic_scores, published_scores

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

    from jobs.record import RunRecord
    from tests.numbers_job import JobWriter

FILES, ROWS, GROUP = 4, 3_000, 500
BAD = 2
"""Number of the file that is damaged."""


def write_input(folder: Path, *, checksums: bool = True, files: int = FILES, rows: int = ROWS) -> list[pa.Table]:
    """Files that are whole, with checksums of their pages; the rows of each."""
    rng = np.random.default_rng(3)
    folder.mkdir()
    tables = []
    for number in range(files):
        ids = np.arange(number * rows, (number + 1) * rows)
        columns = {name: rng.normal(size=rows).astype(np.float32) for name in FEATURES}
        tables.append(pa.table({"id": ids, **columns}))
        pq.write_table(
            tables[-1],
            folder / f"part-{number:04d}.parquet",
            row_group_size=GROUP,
            compression="none",
            use_dictionary=False,
            write_page_checksum=checksums,
        )
    return tables


def flip(path: Path, *, group: int, column: str = "f1") -> None:
    """Flip the sign of a value in a column's page."""
    chunks = pq.ParquetFile(path).metadata.row_group(group)
    [chunk] = [chunk for chunk in map(chunks.column, range(chunks.num_columns)) if chunk.path_in_schema == column]
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size - 197] ^= 0x80
    path.write_bytes(bytes(data))


def cut_somewhere(path: Path) -> None:
    """Leave the beginning of a file, up to a place by chance."""
    data = path.read_bytes()
    path.write_bytes(data[: random.Random(5).randrange(8, len(data) - 8)])  # noqa: S311  the same place in every run


def lose_the_footer(path: Path) -> None:
    """Leave all rows and nothing that tells where they are."""
    data = path.read_bytes()
    path.write_bytes(data[: -int.from_bytes(data[-8:-4], "little") - 8])


def text_instead(path: Path) -> None:
    """Another format under the same name."""
    path.write_text("id,f0,f1,f2,f3\n1,2,3,4,5\n" * 100)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": cut_somewhere,
    "no footer": lose_the_footer,
    "no byte": lambda path: path.write_bytes(b""),
    "another format": text_instead,
    "a flipped bit": lambda path: flip(path, group=4),
}
"""By what was done to a file. Of the last one alone the footer can be read."""


def bad_file(folder: Path) -> Path:
    """The one that is damaged."""
    return folder / "in" / f"part-{BAD:04d}.parquet"


def start(job: Path, run_id: str = "r") -> RunRecord:
    """Run in this process."""
    return run(RunRequest(config=read_config(str(job)), run_id=run_id))


def scores_without(tables: list[pa.Table], *gone: int) -> Any:
    """The oracle: scores of the files that are whole."""
    left = pa.concat_tables([table for number, table in enumerate(tables) if number not in gone])
    return pytest.approx(logistic_scores(left), abs=1e-6)


def policy(folder: Path, on_damaged: str) -> dict[str, Any]:
    """The config's section `input`."""
    return {"files": str(folder / "in"), "on_damaged": on_damaged}


@pytest.mark.matrix("A damaged input file: {damage}; policy quarantine", "the others are published, and it is named")
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("target_bytes", ["1MB", "20KB"])
def test_a_damaged_file_is_set_aside_as_a_whole(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter, damage: str, target_bytes: str
) -> None:
    """Of a damaged file no row is published, though other splits of it were scored; all rows of the others are."""
    tables = write_input(tmp_path / "in")
    DAMAGE[damage](bad_file(tmp_path))
    job = job_file(input=policy(tmp_path, "quarantine"), splits={"target_bytes": target_bytes})
    record = start(job)
    assert record.state is RunState.PARTIALLY_SUCCEEDED
    folder = tmp_path / "out" / "run_id=r"
    assert published_scores(folder) == scores_without(tables, BAD)
    [damaged] = record.damaged
    size = bad_file(tmp_path).stat().st_size
    assert (damaged.file.path, damaged.file.bytes) == (str(bad_file(tmp_path)), size)
    known = ROWS if damage == "a flipped bit" else 0
    assert (damaged.rows.rows if damaged.rows else 0) == known
    account = record.account
    assert account.adds_up
    assert (account.rows_in.rows, account.quarantined.rows) == ((FILES - 1) * ROWS + known, known)
    assert record.reasons == ({"read/DAMAGED_FILE": ROWS} if known else {})
    assert not list(folder.glob(".*.inprogress")), "a receipt that is not published left its file"
    assert start(job) == record


@pytest.mark.matrix("A damaged input file: {damage}; policy fail", "exits 1 and names it")
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_fails_the_run_and_is_named(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter, damage: str
) -> None:
    """With `fail`, the default, nothing is published, and the error says which file and what to do."""
    write_input(tmp_path / "in")
    DAMAGE[damage](bad_file(tmp_path))
    job = job_file(splits={"target_bytes": "20KB"})
    with pytest.raises(InputUnfit) as caught:
        start(job)
    lines = str(caught.value).splitlines()
    assert exit_code(caught.value) == ExitCode.FAILED
    assert lines[1].startswith(f"FileDamaged: {bad_file(tmp_path)} (")
    assert lines[2:] == ["With `input.on_damaged: quarantine` the same id goes on without the damaged files."]
    assert ("row group 4" in lines[1]) == (damage == "a flipped bit")
    assert not list((tmp_path / "out").rglob("*.parquet"))
    record = load_record(*_record_of(job))
    assert record is not None
    assert (record.state, len(record.damaged)) == (RunState.FAILED, 1)
    assert record.account.adds_up


def _record_of(job: Path) -> Any:
    target = find_run(str(job), "r")
    return target.storage, target.layout.record


def test_the_policy_may_change_under_the_same_id(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """A run that failed over a damaged file goes on with `quarantine` and scores nothing twice; not back to `fail`."""
    tables = write_input(tmp_path / "in")
    flip(bad_file(tmp_path), group=4)
    splits = {"target_bytes": "20KB"}
    with pytest.raises(InputUnfit):
        start(job_file(splits=splits))
    held = start(
        job_file(splits=splits, input=policy(tmp_path, "quarantine"), budgets={"read": {"max_files": 0}}),
    )
    assert (held.state, held.splits_scored_now) == (RunState.HELD_BACK, 0)
    with pytest.raises(InputUnfit, match=r"set 1 damaged files aside, and input\.on_damaged is `fail` now"):
        start(job_file(splits=splits))
    record = start(job_file(splits=splits, input=policy(tmp_path, "quarantine")))
    assert (record.state, record.splits_scored_now) == (RunState.PARTIALLY_SUCCEEDED, 0)
    assert published_scores(tmp_path / "out" / "run_id=r") == scores_without(tables, BAD)


def test_neighbours_of_damaged_files_in_a_split_are_scored(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """Of small files that share splits only the damaged ones are set aside, however many there are in one split."""
    tables = write_input(tmp_path / "in", files=512, rows=20)
    flipped, emptied = (4, 6, 301), (5, 511)
    for number in flipped:
        flip(tmp_path / "in" / f"part-{number:04d}.parquet", group=0)
    for number in emptied:
        (tmp_path / "in" / f"part-{number:04d}.parquet").write_bytes(b"")
    record = start(job_file(input=policy(tmp_path, "quarantine")))
    assert record.splits == 128
    assert published_scores(tmp_path / "out" / "run_id=r") == scores_without(tables, *flipped, *emptied)
    paths = [str(tmp_path / "in" / f"part-{number:04d}.parquet") for number in sorted((*flipped, *emptied))]
    assert [one.file.path for one in record.damaged] == paths
    assert (record.account.rows_in.rows, record.account.quarantined.rows) == (510 * 20, 3 * 20)
    assert record.account.adds_up


def test_every_damaged_file_is_in_the_record_of_a_failed_run(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """A dozen damaged files among neighbours of their splits are all in the record, and ten are named by the error."""
    write_input(tmp_path / "in", files=256, rows=20)
    bad = [str(tmp_path / "in" / f"part-{number:04d}.parquet") for number in range(12)]
    for path in bad:
        os.truncate(path, 100)
    # The plan needs a first file.
    shutil.copy(tmp_path / "in" / "part-0200.parquet", tmp_path / "in" / "a.parquet")
    with pytest.raises(InputUnfit, match="and 2 more; the run's record has every file"):
        start(job_file())
    record = load_record(*_record_of(tmp_path / "job.yaml"))
    assert record is not None
    assert [one.file.path for one in record.damaged] == bad


def test_the_first_and_the_largest_file_may_be_damaged(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """What the plan needs of a file it takes of the first that can be read; with `fail` the damaged one is refused."""
    tables = write_input(tmp_path / "in")
    first = tmp_path / "in" / "part-0000.parquet"
    first.write_bytes(first.read_bytes() * 3 + b"nothing")
    with pytest.raises(Refused, match=r"part-0000\.parquet: not a Parquet file, or a damaged one"):
        start(job_file())
    record = start(job_file(input=policy(tmp_path, "quarantine")))
    assert record.state is RunState.PARTIALLY_SUCCEEDED
    assert published_scores(tmp_path / "out" / "run_id=r") == scores_without(tables, 0)


def test_a_trial_leaves_damaged_files_out(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """A trial of some rows passes over a damaged file, and scores the rows of those behind it."""
    tables = write_input(tmp_path / "in")
    (tmp_path / "in" / "part-0000.parquet").write_bytes(b"PAR1")
    config = read_config(str(job_file(input=policy(tmp_path, "quarantine"))))
    record = run(RunRequest(config=config, run_id="r", limit=10))
    wanted = logistic_scores(tables[1].slice(0, 10))
    assert published_scores(find_path(record)) == pytest.approx(wanted, abs=1e-6)


def find_path(record: RunRecord) -> Any:
    """Folder of a run's predictions."""
    return record.output


def test_a_run_without_a_file_that_can_be_read_fails(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """Where every file is damaged nothing is published, whatever the policy: there is no result."""
    write_input(tmp_path / "in", files=2)
    for number in range(2):
        flip(tmp_path / "in" / f"part-{number:04d}.parquet", group=1)
    with pytest.raises(InputUnfit, match=r"\nNo input file that can be read is left\.$"):
        start(job_file(input=policy(tmp_path, "quarantine")))
    assert not list((tmp_path / "out").rglob("*.parquet"))


@pytest.mark.parametrize("budget", [{"max_files": 0}, {"max_ratio": 0.1}])
def test_the_budget_holds_a_run_back_and_a_person_may_publish_it(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter, budget: dict[str, float]
) -> None:
    """Over `budgets.read` the run is held back, told with the file; published by a person it is without that file."""
    tables = write_input(tmp_path / "in")
    lose_the_footer(bad_file(tmp_path))
    job = job_file(input=policy(tmp_path, "quarantine"), budgets={"read": budget})
    done = CliRunner().invoke(cli.app, ["run", str(job), "--run-id", "r"])
    assert done.exit_code == ExitCode.NOT_PUBLISHED, done.output
    assert "1 damaged file was set aside, " in done.output
    shown = CliRunner().invoke(cli.app, ["show", str(job), "r"])
    assert f"damaged: 1 input files set aside as a whole:\n  {bad_file(tmp_path)} (" in shown.output
    assert "rows unknown" in shown.output
    record = publish_run(find_run(str(job), "r"), accept_errors=0, reason="seen")
    assert record.state is RunState.PARTIALLY_SUCCEEDED
    assert published_scores(tmp_path / "out" / "run_id=r") == scores_without(tables, BAD)


def test_a_budget_that_covers_the_damage_lets_the_run_be_published(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """One damaged file of four, a quarter of the bytes, is within one file and 30 %."""
    write_input(tmp_path / "in")
    flip(bad_file(tmp_path), group=0)
    budgets = {"read": {"max_files": 1, "max_ratio": 0.3}}
    record = start(job_file(input=policy(tmp_path, "quarantine"), budgets=budgets))
    assert record.state is RunState.PARTIALLY_SUCCEEDED
    assert open_results(str(tmp_path / "out")).rows == (FILES - 1) * ROWS


def test_a_bit_flipped_in_a_page_without_checksum_is_not_noticed(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """What docs/STORAGE.md warns of: without checksums, uncompressed, another number is scored and nobody knows."""
    tables = write_input(tmp_path / "in", checksums=False)
    flip(bad_file(tmp_path), group=4)
    assert start(job_file()).state is RunState.SUCCEEDED
    there, whole = published_scores(tmp_path / "out" / "run_id=r"), logistic_scores(pa.concat_tables(tables))
    assert there.keys() == whole.keys()
    assert len([key for key in whole if abs(there[key] - whole[key]) > 1e-6]) == 1


def test_spark_writes_checksums(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """A bit flipped in a file that Spark wrote is noticed, so frozen tables and Spark's output are safe."""
    write_input(tmp_path / "made")
    frame = spark.read.parquet(str(tmp_path / "made")).coalesce(1)
    frame.write.option("compression", "uncompressed").parquet(str(tmp_path / "in"))
    [path] = (tmp_path / "in").glob("*.parquet")
    flip(path, group=0)
    with pytest.raises(InputUnfit, match=r"row group 0 cannot be decoded: .*CRC"):
        start(job_file())


def test_a_column_that_is_not_read_may_be_damaged(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """Damage that no row of the job meets sets no file aside, beside damaged files of the same split either."""
    tables = write_input(tmp_path / "in", files=256, rows=20)
    flip(tmp_path / "in" / "part-0008.parquet", group=0, column="f1")
    flip(tmp_path / "in" / "part-0009.parquet", group=0, column="id")
    output = {"uri": str(tmp_path / "out"), "passthrough": ["f0"]}
    record = start(job_file(input=policy(tmp_path, "quarantine"), output=output))
    assert [one.file.path[-12:] for one in record.damaged] == ["0008.parquet"]
    published = pq.read_table(tmp_path / "out" / "run_id=r", columns=["f0"]).column("f0")
    left = pa.concat_tables([table for number, table in enumerate(tables) if number != 8])
    assert sorted(published.to_pylist()) == sorted(left.column("f0").to_pylist())


@pytest.mark.parametrize("on_damaged", ["fail", "quarantine"])
def test_a_file_that_is_gone_is_no_damaged_one(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter, on_damaged: str
) -> None:
    """A file that was removed after the plan fails the run by its name with either policy, and nothing is set aside."""
    write_input(tmp_path / "in")
    job = job_file(input=policy(tmp_path, on_damaged), splits={"target_bytes": "20KB"})

    def remove(phase: str) -> None:
        if phase == "score":
            bad_file(tmp_path).unlink()

    with pytest.raises(InputUnfit, match=rf"InputChanged: {bad_file(tmp_path)}: was removed after the run was planned"):
        run(RunRequest(config=read_config(str(job)), run_id="r"), remove)
    assert not list((tmp_path / "out").rglob("*.parquet"))
    target = find_run(str(job), "r")
    plan = load_plan(target)
    assert plan is not None
    assert what_is_left(target, plan).damaged == ()


def test_what_the_driver_can_read_is_not_damaged(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose host spoils what it reads has no file set aside; what another try has scored is no failure."""
    tables = write_input(tmp_path / "in", files=2)
    job = job_file(input=policy(tmp_path, "quarantine"))
    spoilt = Failure(0, "FileDamaged", f"{tmp_path}/in/part-0000.parquet: row group 0 cannot be decoded: spoilt.", "")

    monkeypatch.setattr("jobs.run.run_tasks", lambda *_: [spoilt])
    with pytest.raises(
        SplitsFailed, match=r"part-0000.* But the driver can read it: look at the worker's host"
    ) as told:
        start(job)
    assert not isinstance(told.value, InputUnfit)
    monkeypatch.setattr("jobs.run.run_tasks", lambda *given: [*run_tasks(*given), spoilt])
    record = start(job)
    assert (record.state, record.damaged) == (RunState.SUCCEEDED, ())
    assert published_scores(tmp_path / "out" / "run_id=r") == scores_without(tables)


def test_a_mended_file_is_new_to_an_incremental_run(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """A file that was set aside counts as not scored: mended, the next incremental run scores it, and nothing else."""
    tables = write_input(tmp_path / "in")
    whole = bad_file(tmp_path).read_bytes()
    lose_the_footer(bad_file(tmp_path))
    job = job_file(input={**policy(tmp_path, "quarantine"), "incremental": True})
    assert start(job).state is RunState.PARTIALLY_SUCCEEDED
    bad_file(tmp_path).write_bytes(whole)
    assert start(job, "s").state is RunState.SUCCEEDED
    wanted = pytest.approx(logistic_scores(tables[BAD]), abs=1e-6)
    assert published_scores(tmp_path / "out" / "run_id=s") == wanted
    assert open_results(str(tmp_path / "out")).rows == FILES * ROWS


def test_quarantine_of_files_needs_files(job_file: JobWriter) -> None:
    """A query has no files that could be set aside, so the policy is refused there."""
    with pytest.raises(ConfigError, match="`on_damaged: quarantine` goes with `files`"):
        read_config(str(job_file(input={"sql": "select 1", "on_damaged": "quarantine"})))
