"""What becomes of runs that somebody was quicker than, at their planning, their publication, or long after it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import jobs.results
from etl.errors import PublishError, ReceiptsVoid, Superseded
from etl.runs.layout import Layout
from etl.runs.local import LocalStorage
from jobs.cli import app
from jobs.config.job import read_config
from jobs.errors import ConfigError, ExitCode, Refused
from jobs.history.runs import find_run
from jobs.planning.resolving import list_inputs
from jobs.record import RunState
from jobs.results import open_results
from jobs.run import RunRequest, run
from jobs.settling.decisions import publish_run
from tests.jobs.test_increment import ROWS as NIGHT
from tests.jobs.test_increment import oracle as scores_of
from tests.jobs.test_increment import published as scores_by_id
from tests.jobs.test_increment import put
from tests.jobs.test_versions import (
    DAYS,
    ROWS,
    oracle,
    output_of,
    published,
    remove_pending,
    start,
    stop_before,
    write_days,
)
from tests.lookup_job import write_lookup_job

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tests.numbers_job import JobWriter


def held_back(tmp_path: Path, job_file: JobWriter, **output: Any) -> Path:
    """A job one of whose rows no folder can hold, with no budget for it."""
    write_days(tmp_path / "in", DAYS, country=["" if number == 3 else "de" for number in range(ROWS)])
    shape = {"partition_by": ["country"], "passthrough": ["id", "country"]}
    job = job_file(output=output_of(tmp_path, **shape, **output))
    assert start(job, "r").state is RunState.HELD_BACK
    return job


def accepted(job: Path) -> Any:
    """Publish the run that is held back, as a person does."""
    return CliRunner().invoke(app, ["publish", str(job), "r", "--accept-errors", "1", "--reason", "known"])


def test_a_driver_that_stood_still_harms_no_version(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """A driver that stands still while it publishes, and goes on when another one has published its run and a later run
    has replaced a day of it, leaves what the newest version holds of it as it is.
    """  # noqa: D205  one sentence
    del spark
    shape = {"mode": "overwrite_partitions", "partition_by": ["day"], "keep_versions": 1}
    job, root = job_file(output=output_of(tmp_path, **shape)), tmp_path / "out"
    first = oracle(write_days(tmp_path / "in", DAYS))
    stop_before("publish", job, "r")
    shutil.copytree(tmp_path / "in", tmp_path / "next")
    later: dict[Any, float] = {}

    def overtake(phase: str) -> None:
        if phase == "complete" and not later:
            start(job, "r")
            later.update(oracle(write_days(tmp_path / "next", DAYS[1:2], seed=8)))
            beside = job_file(input={"files": str(tmp_path / "next")}, output=output_of(tmp_path, **shape))
            start(beside, "next")

    record = run(RunRequest(config=read_config(str(job)), run_id="r"), overtake)
    assert (record.manifest, record.void_receipts) == (1, 0)
    wanted = {key: score for key, score in first.items() if key[0] != DAYS[1]} | later
    assert published(root) == pytest.approx(wanted, abs=1e-6)


def test_what_was_read_before_another_run_came_does_not_replace_it(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that listed its input before another one was published is superseded by it, however late it was planned."""
    del spark
    job = job_file(output={"uri": str(tmp_path / "out"), "mode": "overwrite", "passthrough": ["id"]})
    tables = [put(tmp_path / "in", "a.parquet", 0)]

    def overtaken(patterns: tuple[str, ...]) -> Any:
        found = list_inputs(patterns)
        if len(tables) == 1:
            tables.append(put(tmp_path / "in", "b.parquet", NIGHT, seed=8))
            start(job, "quick")
        return found

    monkeypatch.setattr("jobs.run.list_inputs", overtaken)
    with pytest.raises(Superseded, match=r"version 1 was committed by quick \(overwrite\) after this run was planned"):
        start(job, "late")
    assert scores_by_id(tmp_path) == scores_of(*tables)


def test_a_version_that_comes_back_counts_for_an_increment(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """A run over files that were rolled back is superseded where their run is brought back meanwhile."""
    del spark
    job = job_file(input={"files": str(tmp_path / "in"), "incremental": True})
    tables = [put(tmp_path / "in", "a.parquet", 0)]
    start(job, "one")
    tables.append(put(tmp_path / "in", "b.parquet", NIGHT, seed=8))
    start(job, "two")

    def back(to: int) -> None:
        assert CliRunner().invoke(app, ["rollback", str(job), "--to", str(to), "--reason", "x"]).exit_code == 0

    def forward(phase: str) -> None:
        if phase == "publish":
            back(2)

    back(1)
    with pytest.raises(Superseded, match=r"1 file was scored and published by another run meanwhile, .*b\.parquet"):
        run(RunRequest(config=read_config(str(job)), run_id="three"), forward)
    assert scores_by_id(tmp_path) == scores_of(*tables)


def test_what_is_new_does_not_begin_a_version(tmp_path: Path, job_file: JobWriter) -> None:
    """A run over new files, or missing keys, alone would drop all others with a version of its own: it is refused."""
    put(tmp_path / "in", "a.parquet", 0)
    output = {"uri": str(tmp_path / "out"), "passthrough": ["id"], "on_schema_change": "new_version"}
    with pytest.raises(ConfigError, match=r"on_schema_change: fail.*new_version would lose what was scored before"):
        read_config(str(job_file(input={"files": str(tmp_path / "in"), "incremental": True}, output=output)))
    with pytest.raises(Refused, match=r"--missing-keys: .*on_schema_change.*would lose the keys"):
        run(RunRequest(config=read_config(str(job_file(output=output))), run_id="r", missing_keys="id"))


def test_files_that_spark_prepares_are_not_told_apart(tmp_path: Path, logistic_onnx: Path) -> None:
    """Incremental runs whose rows Spark has to prepare as a table are refused: night after night all would be new."""
    policy = {"files": str(tmp_path / "in"), "incremental": True}
    sections = {"input": policy, "scoring": {"reference_bytes": 10}}
    job = write_lookup_job(tmp_path, logistic_onnx, files=1, rows=100, row_group=50, **sections)
    with pytest.raises(
        Refused, match=r"`incremental`, which goes with rows that workers read: reference table 'words'"
    ):
        start(job, "one")


def test_a_run_lies_where_its_plan_says(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """A run whose first try was refused, with another mode, is found by everybody where its plan has put it."""
    del spark
    write_days(tmp_path / "in", DAYS)
    with pytest.raises(Refused, match="there is no published column 'dai'"):
        start(job_file(output=output_of(tmp_path, partition_by=["dai"])), "r")
    job = held_back(tmp_path, job_file, mode="overwrite")
    assert accepted(job).exit_code == 0
    found = open_results(str(tmp_path / "out"))
    assert found.folders == (str(tmp_path / "out" / "_runs" / "run_id=r"),)
    assert Path(found.folders[0], "_SUCCESS").exists()
    assert [path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith("_")] == []


def test_who_publishes_into_an_empty_root_is_named(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """Where files of a run that is under way, or died, keep others out of an empty root, nobody is told to remove
    them.
    """  # noqa: D205  one sentence
    del spark
    put(tmp_path / "in", "a.parquet", 0)
    job = job_file(output={"uri": str(tmp_path / "out"), "mode": "error", "passthrough": ["id"]})
    stop_before("commit", job, "one")
    with pytest.raises(Refused, match=r"run one is being published here, or died.* its id again") as told:
        start(job, "two")
    assert "Remove" not in str(told.value)
    assert start(job, "one").state is RunState.SUCCEEDED


@pytest.mark.parametrize("is_applied", [True, False])
def test_a_rollback_that_nobody_knows_of_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_applied: bool
) -> None:
    """A rollback whose answer is lost ends with the exit code for that, and tells where to look."""
    from tests.spine.test_versions import put as put_run
    from tests.spine.test_versions import run_of, terms_of

    for name in ("one", "two"):
        put_run(tmp_path, name, run_of(tmp_path, name, {-1: [1]}), terms_of(tmp_path, "overwrite"))

    class Away(LocalStorage):
        """A store that is away once it was asked to commit."""

        is_away = False

        def create_if_absent(self, path: str, data: Any) -> bool:
            self.is_away = True
            if is_applied:
                super().create_if_absent(path, data)
            raise ConnectionError("no answer")

        def read_bytes(self, path: str) -> bytes | None:
            if self.is_away:
                raise ConnectionError("no answer")
            return super().read_bytes(path)

    monkeypatch.setattr("jobs.history.runs.storage_for", lambda uri: (Away(), LocalStorage.normalise(uri)))
    told = CliRunner().invoke(app, ["rollback", str(tmp_path), "--to", "1", "--reason", "x"])
    assert told.exit_code == ExitCode.UNKNOWN
    assert "the commit may have landed. See with `batchscore versions`" in told.output


def test_files_that_are_lost_for_good_need_a_new_id(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """A run whose files were lost too often says that the same id will not do, and says it again."""
    del spark
    write_days(tmp_path / "in", DAYS)
    job = job_file(output=output_of(tmp_path))

    def remove(phase: str) -> None:
        if phase == "complete":
            remove_pending(tmp_path / "out")

    for on_phase in (remove, lambda _: None):
        with pytest.raises(ReceiptsVoid, match=r"2 files are lost.* for the 4th time.*under a new run id"):
            run(RunRequest(config=read_config(str(job)), run_id="r"), on_phase)


def test_a_run_without_its_receipts_is_scored_before_it_is_published(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """Who publishes again, and not runs, a run that was held back and lost its files is told the same once more."""
    del spark
    job = held_back(tmp_path, job_file)
    remove_pending(tmp_path / "out")
    for _ in range(2):
        with pytest.raises(PublishError, match="Run the same id again, which scores them, then publish"):
            publish_run(find_run(str(job), "r"), accept_errors=1, reason="known")
    assert start(job, "r").state is RunState.HELD_BACK
    assert accepted(job).exit_code == 0


def test_lists_for_other_engines_are_written_whoever_publishes(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """The first publication writes them, also where a person has decided on it."""
    del spark
    assert accepted(held_back(tmp_path, job_file, symlink_manifest=True)).exit_code == 0
    [listed] = (tmp_path / "out" / "_symlink_format_manifest").rglob("manifest")
    wanted = open_results(str(tmp_path / "out")).files.column("path").to_pylist()
    assert sorted(listed.read_text().splitlines()) == sorted(f"file://{path}" for path in wanted)


def test_a_model_that_is_half_removed_is_put_back(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """Where `gc` dies while it removes a model, later runs with the same model put it back."""
    del spark
    put(tmp_path / "in", "a.parquet", 0)
    job, root = job_file(), tmp_path / "out"
    stop_before("score", job, "one")
    Path(Layout(str(root), "one").plan).unlink()

    class Died(BaseException):
        """Ends a process."""

    def dying(self: LocalStorage, folder: str) -> None:
        del self
        Path(folder, "model.onnx").unlink()
        raise Died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStorage, "remove", dying)
        with pytest.raises(Died):
            CliRunner().invoke(app, ["gc", str(job), "--min-age", "0"], catch_exceptions=False)
    assert start(job, "two").state is RunState.SUCCEEDED


def test_what_a_zombie_left_of_a_published_run_is_removed(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """Pending files of attempts that died after their run was published are removed when they are old enough."""
    del spark
    put(tmp_path / "in", "a.parquet", 0)
    job, root = job_file(), tmp_path / "out"
    start(job, "one")
    writer = LocalStorage().begin(Layout(str(root), "one").part("000000", "fedcba"))
    writer.write(b"half")
    writer.finish()
    assert CliRunner().invoke(app, ["gc", str(job)]).stdout.strip() == "there is nothing to remove"
    shown = CliRunner().invoke(app, ["gc", str(job), "--min-age", "0", "--dry-run"])
    assert "left by tasks that ended after it was published" in " ".join(shown.stdout.split())
    assert len(list(root.rglob("*.inprogress"))) == 1
    CliRunner().invoke(app, ["gc", str(job), "--min-age", "0"])
    assert not list(root.rglob("*.inprogress"))
    open_results(str(root)).verify()


def test_who_opens_what_is_being_replaced_gets_the_newer_version(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader whose version is replaced, and its files removed, between two looks is given the version that came; one
    who asked for the older one is told that it is kept no more.
    """  # noqa: D205  one sentence
    del spark
    write_days(tmp_path / "in", DAYS)
    job, root = job_file(output=output_of(tmp_path, mode="overwrite", keep_versions=1)), str(tmp_path / "out")
    start(job, "one")
    look, later = jobs.results._check_files, iter(("two", "three"))

    def overtaken(*given: Any) -> None:
        if (name := next(later, None)) is not None:
            start(job, name)
        look(*given)

    monkeypatch.setattr(jobs.results, "_check_files", overtaken)
    assert open_results(root).run_ids == ("three",)
    later = iter(("four",))
    with pytest.raises(Refused, match="version 3 is kept no more"):
        open_results(root, seq=3)


def test_folders_that_readers_pass_over_are_refused(tmp_path: Path, job_file: JobWriter) -> None:
    """A column whose folders would begin with `_` or a dot divides no output: half of the readers would see no row."""
    table = write_days(tmp_path / "in", DAYS, _day=[1] * ROWS)
    assert "_day" in table.column_names
    output = output_of(tmp_path, passthrough=["id", "_day"], partition_by=["_day"])
    with pytest.raises(Refused, match=r"output\.partition_by: _day.*pass over"):
        start(job_file(output=output), "r")
