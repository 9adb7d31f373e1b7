"""What is recorded and told when a run does not end as it should, and that the same id then goes on."""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from etl.documents import sha256_hex
from etl.errors import AccountError, StorageError
from jobs.cli import app
from jobs.config.job import read_config
from jobs.errors import Cancelled, ExitCode, Refused, SplitsFailed
from jobs.history.runs import find_run
from jobs.identity import whoami
from jobs.planning.plan import target_of
from jobs.planning.resolving import list_inputs, make_plan, store_plan
from jobs.record import RunRecord, RunState, load_record
from jobs.results import open_results
from jobs.run import RunRequest
from tests.jobs.outputs import ROWS, run_job, write_input, write_job
from tests.numbers_job import logistic_scores, published_scores
from tests.spine.faults import Died, FaultyStore

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from jobs.run import OnPhase

pytestmark = pytest.mark.usefixtures("spark")


@pytest.fixture
def table(tmp_path: Path) -> pa.Table:
    """The input's rows."""
    return write_input(tmp_path)


@pytest.fixture
def job(tmp_path: Path, table: pa.Table, logistic_onnx: Path) -> Path:
    """A job whose two files are two splits."""
    return write_job(tmp_path, logistic_onnx, splits={"target_bytes": "1MB", "task_bytes": 1})


def record_of(job: Path, run_id: str) -> RunRecord:
    """The stored record."""
    target = find_run(str(job), run_id)
    found = load_record(target.storage, target.layout.record)
    assert found is not None
    return found


def raise_at(name: str, error: BaseException) -> OnPhase:
    """A fault at the border before a phase."""

    def on_phase(phase: str) -> None:
        if phase == name:
            raise error

    return on_phase


def test_a_run_that_failed_records_what_was_scored(job: Path, tmp_path: Path) -> None:
    """Beside the cause, the record of a failed run has the rows, bytes and seconds of the splits that were scored."""
    broken = tmp_path / "in" / "part-1.parquet"
    whole = broken.read_bytes()
    first_page = pq.ParquetFile(broken).metadata.row_group(0).column(1).data_page_offset
    broken.write_bytes(whole[:first_page] + bytes(64) + whole[first_page + 64 :])
    with pytest.raises(SplitsFailed, match="1 of 2 splits cannot be scored"):
        run_job(job, "r")
    record = record_of(job, "r")
    assert (record.state, record.splits, record.splits_scored_now) == (RunState.FAILED, 2, 1)
    assert (record.account.rows_in.rows, record.account.scored.rows) == (ROWS, ROWS)
    assert record.error is not None
    assert record.error.kind == "InputUnfit"
    assert record.bytes_read > 0
    assert {"read", "infer", "write"} <= record.worker_seconds.keys()
    assert {"claim", "list", "plan", "score"} <= record.wall_seconds.keys()
    assert record.snapshot is not None
    assert (record.snapshot.files, record.snapshot.bytes) == (
        2,
        sum(p.stat().st_size for p in (tmp_path / "in").iterdir()),
    )
    assert {"python", "pyarrow", "onnxruntime", "pyspark"} <= record.versions.keys()
    assert record.machine["cores"] == str(os.cpu_count())


def test_the_clocks_of_a_run_add_up_to_it(job: Path) -> None:
    """Seconds by phase sum to the run's wall clock, but for the moments between phases."""
    record = run_job(job, "r")
    assert sum(record.wall_seconds.values()) == pytest.approx(record.seconds, abs=0.25)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk full")])
def test_a_run_that_is_stopped_after_its_commit_is_published(
    job: Path, table: pa.Table, tmp_path: Path, error: BaseException
) -> None:
    """What comes after the commit ends the process and not the publication; the same id then sets the marks."""
    with pytest.raises((Cancelled, OSError)) as caught:
        run_job(job, "r", raise_at("mark", error))
    assert caught.value.__notes__ == ["The run is published, as version 1."]
    record = record_of(job, "r")
    assert (record.state, record.manifest) == (RunState.SUCCEEDED, 1)
    assert record.error is not None
    assert not (tmp_path / "out" / "run_id=r" / "_SUCCESS").exists()
    again = run_job(job, "r")
    assert (again.state, again.error, again.splits_scored_now) == (RunState.SUCCEEDED, None, 0)
    assert (tmp_path / "out" / "run_id=r" / "_SUCCESS").exists()
    assert published_scores(tmp_path / "out" / "run_id=r") == pytest.approx(logistic_scores(table), abs=1e-6)
    assert open_results(str(job)).seq == 1


def test_a_committed_run_is_completed_without_its_input(job: Path, tmp_path: Path) -> None:
    """Once a run is committed its input may go: the same id still sets the marks and writes the record."""
    with pytest.raises(OSError, match="disk full"):
        run_job(job, "r", raise_at("mark", OSError("disk full")))
    (tmp_path / "in" / "part-1.parquet").unlink()
    assert run_job(job, "r").account.rows_in.rows == 2 * ROWS


def test_a_cause_outlives_a_record_that_cannot_be_stored(job: Path, tmp_path: Path) -> None:
    """An error while scoring is what is raised, and that the record could not be stored is a note on it."""

    def block_the_record_and_fail(phase: str) -> None:
        if phase == "settle":
            (tmp_path / "out" / "_batchscore" / "runs" / "r" / "record.json" / "x").mkdir(parents=True)
            raise AccountError("the first cause")

    with pytest.raises(AccountError, match="the first cause") as caught:
        run_job(job, "r", block_the_record_and_fail)
    assert "The record of the run cannot be stored either" in caught.value.__notes__[0]


def test_a_published_run_without_a_record_says_so(job: Path, tmp_path: Path) -> None:
    """Where only the record of a published run cannot be stored, the error says that it is published."""
    record = tmp_path / "out" / "_batchscore" / "runs" / "r" / "record.json"

    def block_the_record(phase: str) -> None:
        if phase == "record":
            (record / "x").mkdir(parents=True)

    with pytest.raises(StorageError, match="run r was published, but its record cannot be stored"):
        run_job(job, "r", block_the_record)
    (record / "x").rmdir()
    record.rmdir()
    assert run_job(job, "r").state is RunState.SUCCEEDED


def test_a_reference_that_changed_before_the_plan_binds_nothing(job: Path) -> None:
    """A try that died at any call while it stored its plan leaves the next try free to pin the new reference table."""
    config = read_config(str(job))
    for at in itertools.count():
        target = target_of(config, f"r{at}", scratch=False)
        resolved = make_plan(target, config, list_inputs(config.input.patterns), latest=None)
        dying = FaultyStore(target.storage, Died, at=at)
        with contextlib.suppress(Died):
            store_plan(target._replace(storage=dying), resolved._replace(references={"airports": b"old"}))
        if at >= len(dying.calls):
            break
        store_plan(target, resolved._replace(references={"airports": b"new"}))
        assert target.storage.read_bytes(target.layout.reference("airports", sha256_hex(b"new"))) == b"new"
    assert at >= len(("bundle.json", "model.onnx", "reference", "plan"))


def test_an_override_of_the_output_is_where_the_command_looks(job: Path, table: pa.Table, tmp_path: Path) -> None:
    """`run --set output.uri=…` shows the predictions of that place, and names it in what to try next."""
    other = tmp_path / "other"
    done = CliRunner().invoke(app, ["run", str(job), "--set", f"output.uri={other}", "--run-id", "r"])
    assert done.exit_code == ExitCode.PUBLISHED, done.output
    assert f"batchscore results {other} r" in done.output.replace("\n", "")
    assert published_scores(other / "run_id=r") == pytest.approx(logistic_scores(table), abs=1e-6)


@pytest.mark.parametrize("command", [["run"], ["plan"], ["show"], ["history"], ["results"]])
def test_a_store_that_is_not_supported_is_refused(job: Path, tmp_path: Path, command: list[str]) -> None:
    """Every command ends with code 2 and the URI where the output is in a store that this release does not know."""
    job.write_text(job.read_text(encoding="utf-8").replace(str(tmp_path / "out"), "ftp://bucket/out"), encoding="utf-8")
    done = CliRunner().invoke(app, [*command, str(job)])
    assert done.exit_code == ExitCode.REFUSED
    assert "ftp://bucket/out: storage scheme 'ftp' is not supported by this release" in done.output.replace("\n", " ")


def test_metrics_that_cannot_be_stored_are_refused_before_work(tmp_path: Path, job: Path, logistic_onnx: Path) -> None:
    """A `metrics.uri` of an unknown scheme is refused before anything is scored."""
    write_job(tmp_path, logistic_onnx, metrics={"uri": "ftp://bucket/metrics"})
    with pytest.raises(Refused, match="storage scheme 'ftp' is not supported"):
        run_job(job, "r")


@pytest.mark.parametrize("text", ["nonsense: [", "format: scorespec/1\n"])
def test_a_recipe_that_cannot_be_fitted_is_refused(tmp_path: Path, text: str) -> None:
    """`fit` ends with code 2 where the recipe is malformed, and writes nothing."""
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    line = ["fit", str(tmp_path / "recipe.yaml"), "--data", str(tmp_path), "--out", str(tmp_path / "spec.json")]
    assert CliRunner().invoke(app, line).exit_code == ExitCode.REFUSED
    assert not (tmp_path / "spec.json").exists()


def test_files_of_others_are_not_an_empty_place(job: Path, tmp_path: Path, logistic_onnx: Path) -> None:
    """`mode: error` refuses a root in which Parquet lies that no run published, and names a file."""
    write_job(tmp_path, logistic_onnx, output={"uri": str(tmp_path / "out"), "passthrough": ["id"], "mode": "error"})
    foreign = tmp_path / "out" / "old" / "a.parquet"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes((tmp_path / "in" / "part-0.parquet").read_bytes())
    with pytest.raises(Refused, match=f"1 file that no run published lies here, {foreign} among them"):
        run_job(job, "r")
    foreign.unlink()
    assert run_job(job, "r").state is RunState.SUCCEEDED


@pytest.mark.parametrize(
    ("trial", "message"), [({"limit": 0}, "limit 0 would score nothing"), ({"sample": 2.0}, "sample 2.0 is no share")]
)
def test_a_trial_of_nothing_is_refused(job: Path, trial: dict[str, float], message: str) -> None:
    """A limit or a sample that no plan may hold is refused when it is asked for, before anything is stored."""
    with pytest.raises(Refused, match=message):
        RunRequest(config=read_config(str(job)), run_id="r", **trial)  # type: ignore[arg-type]


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process runs under a number that no account has, as in a container, that number is who ran it."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54_321)
    assert whoami().startswith("uid-54321@")
