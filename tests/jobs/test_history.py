"""What is known of runs."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

from etl.errors import ReadError
from jobs.cli import app
from jobs.errors import Refused
from jobs.history.explaining import explain_run, tasks_of, usual_run
from jobs.history.runs import config_of, find_run, history, look_at, quarantined_rows
from jobs.monitoring.collected import Collected, collect
from jobs.monitoring.tasks import tasks_table
from jobs.monitoring.trend import RunLine
from jobs.planning.plan import claim_run, target_of
from jobs.record import RunState
from jobs.settling.receipts import receipts_of
from tests.jobs.nights import FIRST, night
from tests.jobs.outputs import ROWS, run_job, write_bad_input, write_job

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def job(spark: SparkSession, logistic_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job with a run that is held back, a trial, a published run and, newest, one that left no record."""
    folder = tmp_path_factory.mktemp("history")
    write_bad_input(folder)
    job = write_job(folder, logistic_onnx)
    assert run_job(job, "a-held").state is RunState.HELD_BACK
    budgets = {"contract": {"max_rows": 4}}
    job = write_job(folder, logistic_onnx, budgets=budgets, metrics={"uri": str(folder / "metrics")})
    run_job(job, "trial", limit=5)
    run_job(job, "b-partial")
    config = config_of(str(job))
    assert config is not None
    claim_run(target_of(config, "c-lost", scratch=False), config.name)
    return job


def test_runs_are_listed_newest_first(job: Path) -> None:
    """History has each run of an output once, newest first, with its counts; trials are none of it."""
    lines = history(str(job.parent / "out"))
    assert [(line.run_id, line.state) for line in lines] == [
        ("c-lost", "UNFINISHED"),
        ("b-partial", "PARTIALLY_SUCCEEDED"),
        ("a-held", "HELD_BACK"),
    ]
    assert [(line.rows, line.quarantined) for line in lines] == [(None, None), (2 * ROWS, 4), (2 * ROWS, 4)]
    assert lines[1].model.startswith("onnx-logistic:")


def test_collected_records_span_outputs(job: Path) -> None:
    """A config lists the runs of its output and those of its job that were collected from elsewhere, each once."""
    metrics = str(job.parent / "metrics")
    assert [line.run_id for line in history(metrics)] == ["b-partial"], "trials are not collected"
    record = look_at(find_run(str(job), "b-partial")).record
    assert record is not None
    collect(metrics, record.model_copy(update={"run_id": "elsewhere"}))
    collect(metrics, record.model_copy(update={"run_id": "others", "job": "other"}))
    assert {line.run_id for line in history(str(job))} == {"a-held", "b-partial", "c-lost", "elsewhere"}
    assert [line.run_id for line in history(str(job), job="other")] == ["others"]
    assert {line.run_id for line in history(metrics)} == {"b-partial", "elsewhere", "others"}


def test_the_last_ending_counts(job: Path, tmp_path: Path) -> None:
    """Each ending of a run is kept as it was written, and history tells the last one; what is no job is none."""
    record = look_at(find_run(str(job), "a-held")).record
    assert record is not None
    later = {"state": RunState.DISCARDED, "recorded_at": record.recorded_at + timedelta(seconds=1)}
    for told in (record, record.model_copy(update=later), record):
        collect(str(tmp_path / "all"), told)
    kept = [path.read_bytes() for path in sorted((tmp_path / "all" / "numbers" / "records").iterdir())]
    assert kept == [record.to_bytes(), record.model_copy(update=later).to_bytes()]
    for name in ("README.txt", "readme"):
        (tmp_path / "all" / name).write_text("not a job")
    assert [(line.run_id, line.state) for line in history(str(tmp_path / "all"))] == [("a-held", "DISCARDED")]


def test_a_record_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A damaged record, or one of a newer release, is a line of its own and a warning; the others are told as ever."""
    for number in range(3):
        collect(str(tmp_path), night(number))
    paths = sorted((tmp_path / "flights" / "records").iterdir())
    paths[0].write_bytes(b"{")
    paths[1].write_bytes(paths[1].read_bytes().replace(b"batchscore.record/1", b"batchscore.record/9"))
    with pytest.warns(UserWarning, match="run night-0[01] of flights: .*not a RunRecord this release can read"):
        found = history(str(tmp_path))
    assert [(line.run_id, line.state) for line in found] == [
        ("night-02", "SUCCEEDED"),
        ("night-01", "UNREADABLE"),
        ("night-00", "UNREADABLE"),
    ]


def test_a_folder_in_the_place_of_a_record_is_told(job: Path, tmp_path: Path) -> None:
    """A folder where a record should be, beside a run or among the collected ones, is a line and hides no other one."""
    shutil.copytree(job.parent / "out", tmp_path / "out")
    beside = tmp_path / "out" / "_batchscore" / "runs" / "a-held" / "record.json"
    before = {line.run_id: line.state for line in history(str(tmp_path / "out"))}
    for number in range(2):
        collect(str(tmp_path / "metrics"), night(number))
    [collected] = (tmp_path / "metrics" / "flights" / "records").glob("night-00.*")
    for path in (beside, collected):
        path.unlink()
        path.mkdir()
    with pytest.warns(UserWarning, match=r"run a-held of numbers: .*record\.json"):
        found = {line.run_id: line.state for line in history(str(tmp_path / "out"))}
    assert found == before | {"a-held": "UNREADABLE"}
    with pytest.warns(UserWarning, match="run night-00 of flights: "):
        lines = history(str(tmp_path / "metrics"))
    assert [(line.run_id, line.state) for line in lines] == [("night-01", "SUCCEEDED"), ("night-00", "UNREADABLE")]


@pytest.mark.parametrize("damage", ["folder", "text"])
def test_what_was_collected_is_shown_where_the_record_is_damaged(job: Path, tmp_path: Path, damage: str) -> None:
    """`show`, `status` and `report` tell the same of a run whose record is damaged, from the one that was collected.

    They warn of it. Where none was collected they end with 1, and say what is wrong with the record and no other place.
    """
    shutil.copytree(job.parent / "out", tmp_path / "out")
    out = str(tmp_path / "out")

    def shown(command: str, run_id: str = "b-partial") -> str:
        words = [command, out, run_id, *(["--out", str(tmp_path / "page.html")] if command == "report" else ["--json"])]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        if command != "report":
            return done.stdout
        page, footer, _ = (tmp_path / "page.html").read_text().partition("<footer>")
        assert footer, "it has the time at which the page was made"
        return page

    commands = ("show", "status", "report")
    before = [shown(command) for command in commands]
    for run_id in ("b-partial", "a-held"):
        [path] = (tmp_path / "out").rglob(f"{run_id}/record.json")
        path.unlink()
        path.mkdir() if damage == "folder" else path.write_text("{")
    for command, told in zip(commands, before, strict=True):
        with pytest.warns(UserWarning, match=r"b-partial/record\.json: .* What is told is of the record that was coll"):
            assert shown(command) == told
    for command in commands:
        failed = CliRunner().invoke(app, [command, out, "a-held"])
        assert failed.exit_code == 1
        assert "a-held/record.json: " in failed.stderr
        assert "another folder" not in failed.stderr


def test_runs_of_missing_keys_are_no_usual_ones(tmp_path: Path) -> None:
    """Runs of `--missing-keys`, and so of `--resubmit`, are not among those of which the usual one is the median."""
    seconds = {0: 100.0, 2: 102.0, 4: 104.0}
    for number in range(7):
        missing = None if number in seconds or number == 6 else "id"
        told = night(number, seconds=seconds.get(number, 1.0), missing_keys=missing)
        collect(str(tmp_path), told, tasks_table((), ()))
    lines = history(str(tmp_path))
    newest = lines[0]
    assert (usual_run(lines, newest).line.run_id, usual_run(lines, newest).of) == ("night-02", 3)
    fewer = [line for line in lines if line.run_id != "night-04"]
    with pytest.raises(Refused, match="2 runs of flights ended before night-06"):
        usual_run(fewer, newest)


def test_what_is_beside_the_run_counts_where_the_collected_record_does_not(job: Path, tmp_path: Path) -> None:
    """A record beside a run is told though the collected one is damaged, or is of an earlier ending."""
    config = tmp_path / "job.yaml"
    config.write_text(job.read_text().replace(str(job.parent / "metrics"), str(tmp_path / "metrics")))
    record = look_at(find_run(str(job), "b-partial")).record
    assert record is not None
    earlier = {"state": RunState.FAILED, "recorded_at": record.recorded_at - timedelta(seconds=1)}
    collect(str(tmp_path / "metrics"), record.model_copy(update=earlier))
    assert {line.run_id: line.state for line in history(str(config))}["b-partial"] == "PARTIALLY_SUCCEEDED"
    [path] = (tmp_path / "metrics" / "numbers" / "records").iterdir()
    path.write_bytes(b"{")
    with pytest.warns(UserWarning, match="run b-partial of numbers: .*not a RunRecord this release can read"):
        found = {line.run_id: line for line in history(str(config))}
    assert found["b-partial"].record == record


def test_a_damaged_table_of_tasks_is_made_anew_from_receipts(job: Path, tmp_path: Path) -> None:
    """It is a warning where the receipts are known to be, and else an error that names it."""
    record = look_at(find_run(str(job), "b-partial")).record
    assert record is not None
    whole = tasks_of(str(job), record)
    config = tmp_path / "job.yaml"
    config.write_text(job.read_text().replace(str(job.parent / "metrics"), str(tmp_path / "metrics")))
    collect(str(tmp_path / "metrics"), record, whole)
    [path] = (tmp_path / "metrics" / "numbers" / "tasks").iterdir()
    path.write_bytes(path.read_bytes()[:500])
    with pytest.warns(UserWarning, match="a damaged table of tasks"):
        assert tasks_of(str(config), record).equals(whole)
    with pytest.raises(ReadError, match=f"{path}: a damaged table of tasks"):
        tasks_of(str(tmp_path / "metrics"), record)


def test_a_table_of_tasks_is_collected(job: Path) -> None:
    """Beside a record lies a table whose rows, bytes and seconds are those of the record, and of the receipts."""
    target = find_run(str(job), "b-partial")
    view = look_at(target)
    assert view.record is not None
    assert view.plan is not None
    tasks = Collected.at(str(job.parent / "metrics")).tasks("numbers", "b-partial")
    assert tasks is not None
    record, account = view.record, view.record.account
    for name in ("rows_in", "scored", "quarantined", "filtered"):
        assert pc.sum(tasks[name]).as_py() == getattr(account, name).rows
    for name in ("bytes_read", "bytes_written"):
        assert pc.sum(tasks[name]).as_py() == getattr(record, name)
    receipts = list(receipts_of(target, view.plan))
    assert tasks["attempt"].to_pylist() == [receipt.attempt for receipt in receipts]
    assert [dict(one) for one in tasks["seconds"].to_pylist()] == [receipt.seconds for receipt in receipts]
    for phase, seconds in record.worker_seconds.items():
        assert round(sum(dict(one).get(phase, 0.0) for one in tasks["seconds"].to_pylist()), 3) == seconds
    paths = {path for paths in tasks["files"].to_pylist() for path in paths}
    assert paths == {file.path for file in view.plan.inputs}


def test_a_record_that_cannot_be_collected_is_a_warning(job: Path, tmp_path: Path) -> None:
    """A place for metrics that refuses a record does not fail a run that has ended."""
    record = look_at(find_run(str(job), "a-held")).record
    assert record is not None
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="record of run a-held was not collected"):
        collect(str(tmp_path / "file"), record)


def test_a_run_is_found_by_id_or_as_the_newest(job: Path) -> None:
    """Without an id the newest run is meant; a trial is found by its id."""
    assert find_run(str(job)).layout.run_id == "c-lost"
    assert find_run(str(job), "a-held").layout.root == str(job.parent / "out")
    assert find_run(str(job), "trial").layout.root == str(job.parent / "out" / "_batchscore" / "scratch" / "trial")


@pytest.mark.parametrize("run_id", ["b-partail", "../../../etc", "", "a/b"])
def test_an_unknown_run_is_refused(job: Path, run_id: str) -> None:
    """An id that no run has, or that is no id, is refused."""
    with pytest.raises(Refused, match="there is no run"):
        find_run(str(job), run_id)


def test_an_output_without_runs_is_refused(tmp_path: Path) -> None:
    """Where nothing ran there is no newest run."""
    with pytest.raises(Refused, match="there is no run here"):
        find_run(str(tmp_path))
    assert history(str(tmp_path)) == []


def test_a_run_without_a_record_shows_how_far_it_is(job: Path) -> None:
    """Of a run that is at work, or died, the claim and the scored splits are known."""
    lost = look_at(find_run(str(job), "c-lost"))
    assert (lost.state, lost.plan, lost.splits_done) == ("UNFINISHED", None, 0)
    assert lost.claim is not None
    with pytest.raises(Refused, match="has no plan yet"):
        quarantined_rows(lost.target)
    held = look_at(find_run(str(job), "a-held"))
    assert held.plan is not None
    assert held.splits_done == len(held.plan.splits) == 2


def test_pace_is_told_of_large_runs_only() -> None:
    """Seconds a million rows are seconds over rows, and are not told where Spark's start would be all of it."""
    assert RunLine.of_record(night(seconds=3.0, rows=1_500_000)).seconds_per_million == 2.0
    assert RunLine.of_record(night(seconds=3.0, rows=9_999)).seconds_per_million is None
    assert RunLine("r", "j", "UNFINISHED", FIRST).seconds_per_million is None


def test_a_run_is_explained_by_another(job: Path) -> None:
    """What two real runs differ in adds up, and is told the same from collected tables and from receipts."""
    run_job(job, "d-first")
    run_job(job, "e-second")
    runner = CliRunner()
    told = []
    for where in (str(job), str(job.parent / "metrics"), str(job.parent / "out")):
        asked = ["explain-duration", where, "e-second", "--against", "d-first", "--json"]
        done = runner.invoke(app, asked)
        assert done.exit_code == 0, done.output
        told.append(json.loads(done.output))
    assert told[0] == told[1] == told[2]
    assert sum(part["change"] for part in told[0]["parts"]) == pytest.approx(told[0]["change"])
    records = [look_at(find_run(str(job), name)).record for name in ("d-first", "e-second")]
    assert [told[0]["seconds_before"], told[0]["seconds"]] == [record.seconds for record in records if record]


def test_what_is_printed_of_an_explanation(tmp_path: Path) -> None:
    """It says of how many runs the one before is the median, and names what was slower or faster; what rounds to
    nought is counted and not shown, and a provider is no cause where a run had none.
    """  # noqa: D205  one sentence
    providers = {4: "CPUExecutionProvider"}
    for number in range(5):
        wall = {"list": 5.0 - number, "plan": 2.0 + number, "publish": 1.0}
        told = night(number, seconds=sum(wall.values()), wall_seconds=wall, provider=providers.get(number))
        collect(str(tmp_path), told, tasks_table((), ()))
    runner = CliRunner()
    done = runner.invoke(app, ["explain-duration", str(tmp_path), "night-04"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == "night-04 took 8.0 s, 0.0 s longer than night-01, the median of 4 runs (8.0 s)"
    shown = {line.split("  ")[0] for line in lines[2:-1]}
    assert shown == {"driver: list", "driver: plan", "unexplained", "in all"}
    assert lines[-1] == "6 causes are below 0.05 s and not shown; --json has all."
    assert "infer" not in explain_run(str(tmp_path), "night-04").notes
    collect(str(tmp_path), night(5, provider="CUDAExecutionProvider"), tasks_table((), ()))
    other = explain_run(str(tmp_path), "night-05", "night-04").notes["infer"]
    assert other == "CPUExecutionProvider → CUDAExecutionProvider"
    named = runner.invoke(app, ["explain-duration", str(tmp_path), "night-04", "--against", "night-01"])
    assert named.output.splitlines()[0] == "night-04 took 8.0 s, 0.0 s longer than night-01 (8.0 s)"


def test_a_run_without_a_usual_one_is_refused(job: Path, tmp_path: Path) -> None:
    """Where too few runs came before, or a run is not there, that is said."""
    for number in range(4):
        collect(str(tmp_path), night(number))
    runner = CliRunner()
    for run_id, message in (
        ("night-02", "2 runs of flights ended before night-02, too few to say what is usual"),
        ("night-9", "there is no run 'night-9' that has left a record. Did you mean"),
    ):
        refused = runner.invoke(app, ["explain-duration", str(tmp_path), run_id])
        assert refused.exit_code == 2
        assert message in refused.output
    collect(str(tmp_path), night(3), tasks_table((), ()))
    refused = runner.invoke(app, ["explain-duration", str(tmp_path), "night-03", "--against", "night-03"])
    assert "run night-03 is compared with itself" in refused.output
