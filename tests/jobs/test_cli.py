"""The command line: what people type, what they read, and what their scripts get."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from etl.errors import OutcomeUnknown, Superseded
from etl.spec import read_spec
from jobs import cli
from jobs.errors import SplitsFailed
from jobs.record import RunState
from tests.jobs.outputs import ROWS, run_job, write_bad_input, write_input, write_job
from tests.numbers_job import write_numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import SparkSession
    from typer.testing import Result

REPOSITORY = Path(__file__).parents[2]


def batchscore(*words: object) -> Result:
    """Run a command in this process, without a terminal."""
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture(scope="module")
def job(spark: SparkSession, logistic_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job over good input; tests name their runs."""
    folder = tmp_path_factory.mktemp("cli")
    write_input(folder)
    return write_job(folder, logistic_onnx, output={"uri": str(folder / "out"), "passthrough": ["id"]})


@pytest.fixture(scope="module")
def held(spark: SparkSession, logistic_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job with two runs that are held back."""
    folder = tmp_path_factory.mktemp("held")
    write_bad_input(folder)
    job = write_job(folder, logistic_onnx)
    for run_id in ("held", "other"):
        assert run_job(job, run_id).state is RunState.HELD_BACK
    return job


def no_spark(*_: object) -> Any:
    """Stands where Spark is started in tests of what must not start it."""
    pytest.fail("Spark was started")


def test_a_run_ends_by_saying_what_people_ask(job: Path) -> None:
    """A run prints where the predictions are, the row account, seconds by phase, three rows, and what to try next."""
    done = batchscore("run", job, "--run-id", "said")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert "state: SUCCEEDED" in lines
    assert f"predictions: {job.parent}/out/run_id=said" in lines
    assert "rows: 1,200 in = 1,200 scored + 0 quarantined + 0 filtered" in lines
    (seconds,) = (line for line in lines if line.startswith("seconds: "))
    assert "score" in seconds
    head = lines.index("id         p")
    assert len(lines[head + 1 : head + 4]) == 3
    assert f"next: batchscore results {job} said  # look at predictions" in lines
    assert [line.partition("Z ")[2] for line in done.stderr.splitlines()][1:3] == ["claim", "list"]


def test_a_published_run_is_not_scored_again(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command again says that it was published, exits 0, and starts no Spark."""
    assert batchscore("run", job, "--run-id", "once").exit_code == 0
    monkeypatch.setattr("jobs.run.start_session", no_spark)
    again = batchscore("run", job, "--run-id", "once")
    assert again.exit_code == 0
    assert "it was published before; nothing was done" in again.stderr
    assert "state: SUCCEEDED" in again.stdout


def test_a_run_without_an_id_gets_one(job: Path) -> None:
    """A run by hand is named for its job and its time, and says its name first."""
    done = batchscore("run", job, "--limit", 5)
    assert re.match(r"run numbers-\d{8}t\d{6}-[0-9a-f]{4}\n", done.stderr)
    assert "rows: 600 in = 5 scored + 0 quarantined + 595 filtered" in done.stdout


def test_all_errors_of_a_config_come_at_once(
    tmp_path: Path, logistic_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown keys, in the file or after --set, are named with line, key and the nearest right one; exit 2."""
    monkeypatch.setattr("jobs.run.start_session", no_spark)
    job = write_job(tmp_path, logistic_onnx, inptu={})
    refused = batchscore("run", job, "--set", "scoring.threds=2", "--set", "splits.target_bytes=0")
    assert refused.exit_code == 2
    assert re.search(rf'{job}:\d+:\d+: /inptu: unknown key "inptu". Did you mean "input"\?', refused.stderr)
    assert 'unknown key "threds". Did you mean "threads"?' in refused.stderr
    assert "/splits/target_bytes" in refused.stderr
    assert refused.stdout == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "JOB", "--limit", "0"],
        ["run", "JOB", "--sample", "0"],
        ["run", "JOB", "--sample", "1.5"],
        ["run", "JOB", "--run-id", "2026-11-01"],
        ["run", "JOB", "--set", "nonsense"],
        ["run", "nowhere.yaml"],
        ["plan", "JOB", "--run-id", "../x"],
        ["results", "JOB", "--path", "--quarantine"],
        ["show", "JOB", "no-such-run"],
        ["publish", "JOB", "no-such-run", "--accept-errors", "1", "--reason", "r"],
        ["schema", "jobs"],
        ["rnu", "JOB"],
        ["fit", "nowhere.yaml", "--data", "x", "--out", "y", "--reference", "name"],
    ],
)
def test_a_wrong_request_exits_2(job: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with a request is said on standard error with exit code 2, without a traceback or Spark."""
    monkeypatch.setattr("jobs.run.start_session", no_spark)
    refused = batchscore(*[str(job) if word == "JOB" else word for word in words])
    assert refused.exit_code == 2, refused.output
    assert refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [(SplitsFailed("s"), 1), (OutcomeUnknown("o"), 3), (Superseded("p"), 4)],
    ids=str,
)
def test_each_ending_has_its_code(job: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int) -> None:
    """A failure exits 1, an unknown outcome 3, a run that was superseded 4; each with its message alone."""

    def end(_request: object, on_phase: Any) -> None:
        on_phase("claim")
        raise error

    monkeypatch.setattr(cli, "run_job", end)
    ended = batchscore("run", job, "--run-id", "e", "--set", "scoring.threads=1", "--sample", "0.5")
    assert ended.exit_code == code
    assert f"error: {error}\n" in ended.stderr
    assert f"Go on with: batchscore run {job} --set scoring.threads=1 --sample 0.5 --run-id e" in ended.stderr
    assert "Traceback" not in ended.stderr
    monkeypatch.setenv("BATCHSCORE_COMMAND", "./spark-submit.sh job.yaml --master yarn ")
    ended = batchscore("run", job, "--run-id", "e")
    assert "Go on with: ./spark-submit.sh job.yaml --master yarn --run-id e\n" in ended.stderr


def test_a_defect_is_one_line_unless_debugged(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is one line that names it; with --debug, anywhere, comes the traceback."""
    monkeypatch.setattr(cli, "run_job", lambda *_: dict[str, str]()["missing"])
    short = batchscore("run", job)
    assert short.exit_code == 1
    assert "error: unexpected KeyError: 'missing'. Run with --debug for the traceback." in short.stderr
    assert "Traceback" not in short.stderr
    for words in (["--debug", "run", job], ["run", job, "--debug"]):
        long = batchscore(*words)
        assert long.exit_code == 1
        assert "Traceback" in long.stderr


def test_a_run_over_its_budget_exits_4_and_says_what_can_be_done(held: Path) -> None:
    """A run that is held back exits 4; what it prints leads to its bad rows, to publish and to discard."""
    done = batchscore("run", held, "--run-id", "held")
    assert done.exit_code == 4
    assert "state: HELD_BACK" in done.stdout
    assert f"next: batchscore publish {held} held --accept-errors 4 --reason TEXT" in done.stdout
    assert f"next: batchscore discard {held} held --reason TEXT" in done.stdout
    assert "error" not in done.stderr


def test_a_held_back_run_is_published_or_discarded(held: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`publish` and `discard` do what they say without Spark, and `show` says afterwards who did it and why."""
    monkeypatch.setattr("jobs.run.start_session", no_spark)
    refused = batchscore("publish", held, "held", "--accept-errors", 3, "--reason", "known")
    assert (refused.exit_code, refused.stdout) == (2, "")
    published = batchscore("publish", held, "held", "--accept-errors", 4, "--reason", "known fault")
    assert published.exit_code == 0, published.output
    assert "rows: 1,200 in = 1,196 scored + 4 quarantined + 0 filtered" in published.stdout
    shown = batchscore("show", held, "held").stdout
    assert re.search(r"published: by \S+@\S+, .*: known fault", shown)
    assert batchscore("discard", held, "other", "--reason", "wrong month").exit_code == 0
    assert "state: DISCARDED" in batchscore("show", held, "other").stdout
    assert batchscore("run", held, "--run-id", "other").exit_code == 2


def test_bad_rows_are_shown_by_reason(held: Path) -> None:
    """`results --quarantine` counts the rows that were set aside by reason, with one to look at."""
    lines = batchscore("results", held, "held", "--quarantine").stdout.splitlines()
    assert lines[1].split()[:4] == ["4", "contract", "MISSING", "f1"]
    assert "part-0.parquet row 3" in lines[1]
    assert lines[-1] == "run held set 4 rows aside"


def test_a_plan_is_shown_and_changes_nothing(
    tmp_path: Path, logistic_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`plan` says what would be read, split, scored and written, starts no Spark and writes nothing at all."""
    monkeypatch.setattr("jobs.run.start_session", no_spark)
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx, spark={"master": "local[3,4]"}, budgets={"contract": {"max_ratio": 0.01}})
    before = sorted(tmp_path.rglob("*"))
    shown = batchscore("plan", job, "--run-id", "r", "--set", "splits.target_bytes=8kB")
    assert shown.exit_code == 0, shown.output
    assert sorted(tmp_path.rglob("*")) == before
    facts = dict(line.split(": ", 1) for line in shown.stdout.splitlines())
    assert facts["input"].startswith("2 files, ")
    assert re.fullmatch(r"\d+ of \S+ kB on average, 0 are scored already", facts["splits"])
    assert facts["tasks"] == "3 of Spark, 3 at once"
    assert facts["memory"].endswith("MB for a worker at its peak, as projected")
    assert facts["columns"] == "id int64, p float"
    assert facts["output"] == f"{tmp_path}/out/run_id=r"
    assert "contract 1.00%" in facts["budgets"]
    planned = json.loads(batchscore("plan", job, "--json").stdout)
    assert planned["format"] == "batchscore.plan/1"


def test_a_plan_says_what_an_earlier_try_has_done(held: Path) -> None:
    """`plan` of a run id that was scored before says that its splits are done and what state it is in."""
    facts = dict(line.split(": ", 1) for line in batchscore("plan", held, "--run-id", "held").stdout.splitlines())
    assert facts["splits"].endswith("2 are scored already")
    assert facts["state"] in {"HELD_BACK", "PARTIALLY_SUCCEEDED"}
    assert facts["tasks"].startswith("0 ")


def test_validate_is_a_checklist(job: Path) -> None:
    """`validate` of a sound job is a list of checks that are all ok."""
    done = batchscore("validate", job)
    assert done.exit_code == 0, done.output
    states = [line.split("  ")[0] for line in done.stdout.splitlines()[1:]]
    assert states == ["input", "format", "model", "contract", "references", "golden rows", "hooks", "plan"]
    assert "unchecked" not in done.stdout


def test_validate_says_all_that_is_wrong(job: Path, tmp_path: Path) -> None:
    """`validate` goes on after a failed check, says what it could not look at, and exits 2."""
    done = batchscore(
        "validate", job, "--set", f"input.files={tmp_path}/none", "--set", f"model.onnx={tmp_path}/no.onnx"
    )
    assert done.exit_code == 2
    rows = [line.split(maxsplit=1) for line in done.stdout.splitlines()[1:]]
    assert rows[0][0] == "input"
    assert rows[0][1].startswith("failed")
    assert "there is no file to open" in done.stdout
    column = batchscore("validate", job, "--set", "model.inputs.X=[f0, f1, f2, f9]")
    assert column.exit_code == 2
    assert "f9" in column.stdout


def test_history_and_show_are_for_people_and_programs(job: Path) -> None:
    """`history` and `show` print tables, and with --json what a program can read."""
    batchscore("run", job, "--run-id", "kept")
    assert any(
        line.startswith("kept ") and "SUCCEEDED" in line for line in batchscore("history", job).stdout.splitlines()
    )
    entries = [json.loads(line) for line in batchscore("history", job, "--json").stdout.splitlines()]
    assert "kept" in {entry["run_id"] for entry in entries}
    record = json.loads(batchscore("show", job, "kept", "--json").stdout)
    assert record["account"]["scored"]["rows"] == 2 * ROWS
    last = batchscore("history", job.parent / "out", "--last", 1).stdout.splitlines()
    assert "older runs are not shown" in last[-1] or len(last) == 2


def test_results_are_printed_located_and_exported(job: Path, tmp_path: Path) -> None:
    """`results` prints rows, with --path the run's folder and nothing else, with --export a file of all rows."""
    batchscore("run", job, "--run-id", "shown")
    printed = batchscore("results", job, "shown", "-n", 2).stdout.splitlines()
    assert printed[0].split() == ["id", "p"]
    assert printed[-1].startswith("2 of 1,200 rows of version ")
    assert batchscore("results", job, "shown", "--path").stdout == f"{job.parent}/out/run_id=shown\n"
    exported = batchscore("results", job, "shown", "--export", tmp_path / "x.parquet")
    assert exported.exit_code == 0
    assert pq.read_table(tmp_path / "x.parquet").num_rows == 2 * ROWS


@pytest.mark.parametrize("document", ["job", "etl", "bundle", "record"])
def test_schemas_are_json_schema(document: str) -> None:
    """`schema` prints a JSON Schema that is one, with a title."""
    made = json.loads(batchscore("schema", document).stdout)
    jsonschema.Draft202012Validator.check_schema(made)
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert made["title"] == f"batchscore {document}"


def test_the_schema_of_a_job_tells_right_from_wrong(job: Path) -> None:
    """An editor with the job's schema accepts a job that runs, and marks an unknown key."""
    validator = jsonschema.Draft202012Validator(cli.json_schema("job"))
    right = yaml.safe_load(job.read_text())
    assert list(validator.iter_errors(right)) == []
    assert list(validator.iter_errors({**right, "inptu": {}}))


def test_the_schema_of_a_record_accepts_a_record(job: Path) -> None:
    """The stored record of a run is valid by the schema that is printed."""
    batchscore("run", job, "--run-id", "recorded")
    record = json.loads(batchscore("show", job, "recorded", "--json").stdout)
    jsonschema.validate(record, cli.json_schema("record"))


def test_fit_learns_a_recipe(tmp_path: Path) -> None:
    """`fit` says what each pass learns, and writes a spec that is fitted and has the column's mean."""
    pq.write_table(pa.table({"x": [1.0, 2.0, 6.0], "id": [1, 2, 3]}), tmp_path / "x.parquet")
    recipe = {
        "format": "scorespec/1",
        "spec_id": "small",
        "input": {"fields": [{"name": "x", "type": "float64"}]},
        "steps": [{"id": "scaled", "op": "standardize", "in": ["x"], "out": ["z"]}],
        "outputs": {"tensors": [{"tensor": "X", "from": ["z"]}]},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = batchscore("fit", tmp_path / "recipe.yaml", "--data", tmp_path / "x.parquet", "--out", tmp_path / "etl.json")
    assert done.exit_code == 0, done.output
    assert "learned: scaled" in done.stdout
    assert "rows: 3, of which 0 rejected" in done.stdout
    fitted = read_spec((tmp_path / "etl.json").read_text(), "etl.json")
    assert fitted.is_fitted
    assert '"mean":3.0' in fitted.to_bytes().decode()


def start(job: Path, *words: str) -> subprocess.Popen[str]:
    """Start `run` in a process group of its own, with every warning an error but pyspark's of its own sockets."""
    warnings = ["-W", "error", "-W", "ignore:unclosed <socket:ResourceWarning"]
    return subprocess.Popen(
        [sys.executable, *warnings, "-m", "jobs.main", "run", str(job), *words],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYSPARK_PYTHON": sys.executable, "TMPDIR": str(job.parent)},
        start_new_session=True,
    )


def disturbed(job: Path, phase: str, disturb: Callable[[int], None]) -> list[str]:
    """The lines on standard error of the run `stopped`, which failed; the driver was disturbed as the phase began."""
    process = start(job, "--run-id", "stopped")
    assert process.stderr
    read: list[str] = []
    for line in process.stderr:
        read.append(line.rstrip())
        if line.endswith(f"Z {phase}\n"):
            disturb(process.pid)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    return read


def check_cancelled(job: Path, errors: list[str]) -> None:
    """The run `stopped` was, says so once, and prints nothing else than its progress."""
    expected = (
        r"run stopped|\S+Z [a-z_]+(: .*)?|stopping: .*|error: run stopped was stopped by a signal\. .*|Go on with: .*"
    )
    assert [line for line in errors if not re.fullmatch(expected, line)] == []
    assert sum(line.startswith("error: ") for line in errors) == 1
    record = json.loads(batchscore("show", job, "stopped", "--json").stdout)
    assert record["state"] == "CANCELLED"
    assert not list(job.parent.glob("batchscore-spark-*"))


def test_all_that_programs_read_of_a_failure_is_json(spark: SparkSession, tmp_path: Path, logistic_onnx: Path) -> None:
    """With `--log-format json` each line of standard error is a document: phases, who was not told, and the error last.

    A request that is refused before anything is done ends so, too.
    """
    write_input(tmp_path)
    (tmp_path / "in" / "part-1.parquet").write_bytes(b"PAR1 no parquet PAR1")
    job = write_job(tmp_path, logistic_onnx, hooks={"failure": [{"command": ["false"]}], "tries": 1})

    def told(*words: str, code: int) -> list[dict[str, str]]:
        command = [sys.executable, "-m", "jobs.main", "run", str(job), "--log-format", "json", *words]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=100, check=False)
        assert (done.returncode, done.stdout) == (code, "")
        return [json.loads(line) for line in done.stderr.splitlines()]

    documents = told("--run-id", "r", code=1)
    assert [one for one in documents[:-3] if one["event"] not in {"phase", "progress"}] == []
    ending, warning, error = documents[-3:]
    assert (ending["event"], ending["phase"]) == ("phase", "ending")  # from which on nobody looks how far scoring is
    assert (warning["event"], error["event"]) == ("warning", "error")
    assert warning["message"].startswith("hooks.failure[0] was not told of the failure of run r: ")
    assert "part-1.parquet" in error["message"]
    times = [one["time"] for one in documents]
    assert times == sorted(times)
    [refused] = told("--set", "scoring.threds=2", code=2)
    assert (refused["event"], 'unknown key "threds"' in refused["message"]) == ("error", True)


def test_signals_cancel_a_run_once(spark: SparkSession, tmp_path: Path, logistic_onnx: Path) -> None:
    """Signals while a run scores, and more while it writes that down, end it CANCELLED with one message and no noise.

    The whole process group gets them, as at a terminal. The same command then completes the run.
    """
    write_numbers(tmp_path / "in", files=4, rows=60_000, row_group=5_000)
    job = write_job(tmp_path, logistic_onnx, splits={"target_bytes": 60_000})

    def send(driver: int) -> None:
        threading.Timer(0.05, os.killpg, (driver, signal.SIGINT)).start()
        os.killpg(driver, signal.SIGINT)
        os.kill(driver, signal.SIGTERM)

    check_cancelled(job, disturbed(job, "score", send))
    again = batchscore("run", job, "--run-id", "stopped")
    assert again.exit_code == 0, again.output
    assert "rows: 240,000 in = 240,000 scored + 0 quarantined + 0 filtered" in again.stdout


@pytest.mark.parametrize("name", ["batchscore-turn", "batchscore-guard", "progress"])
def test_a_signal_while_a_thread_starts_cancels_a_run(
    spark: SparkSession, tmp_path: Path, logistic_onnx: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Such a thread cannot be waited for, which is no error of the run's. The same command then completes the run.

    Nothing outside can send a signal at just that moment.
    """
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx, sla={"max_duration": "1h", "on_breach": "fail"})
    begin = threading.Thread.start

    def begin_or_stop(thread: threading.Thread) -> None:
        if thread.name == name:
            raise KeyboardInterrupt
        begin(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", begin_or_stop)
        stopped = batchscore("run", job, "--run-id", "r")
    assert (stopped.exit_code, stopped.stdout) == (1, "")
    [error] = [line for line in stopped.stderr.splitlines() if line.startswith("error: ")]
    assert "stopped by a signal" in error
    again = batchscore("run", job, "--run-id", "r")
    # Who waits for another driver says so.
    assert (again.exit_code, "is being worked on" in again.stderr) == (0, False), again.output


def kill_spark(driver: int) -> None:
    """End the JVM that the driver started."""
    [jvm] = [child for child in psutil.Process(driver).children() if child.name() == "java"]
    jvm.kill()
    while jvm.is_running() and jvm.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


def send_once_spark_is_gone(driver: int, number: int) -> None:
    """The driver, which sees nothing meanwhile, then learns of both at once."""
    os.kill(driver, signal.SIGSTOP)
    kill_spark(driver)
    os.kill(driver, number)
    os.kill(driver, signal.SIGCONT)


@pytest.mark.servers
@pytest.mark.parametrize(
    ("phase", "send"),
    [("score", os.killpg), ("drift", os.killpg), ("score", os.kill), ("score", send_once_spark_is_gone)],
    ids=["score", "drift", "score, the driver alone", "score, once Spark is gone"],
)
def test_a_signal_that_spark_gets_too_cancels_a_run(
    spark: SparkSession, tmp_path: Path, logistic_onnx: Path, phase: str, send: Callable[[int, int], None]
) -> None:
    """SIGTERM to all processes, as systemd sends it, ends the JVM first: neither its end nor that of its threads is
    told, nor that pyspark cannot ask it any more. Nor is what py4j logs where the driver alone gets it, and is
    interrupted while it waits for the JVM. Drift is held up by a baseline that nobody writes.
    """  # noqa: D205  one sentence
    write_numbers(tmp_path / "in", files=4, rows=60_000, row_group=5_000)
    os.mkfifo(tmp_path / "baseline")
    drift = {"reference": ["previous"], "baseline": str(tmp_path / "baseline")}
    job = write_job(tmp_path, logistic_onnx, splits={"target_bytes": 60_000}, drift=drift)
    check_cancelled(
        job, disturbed(job, phase, lambda driver: threading.Timer(0.5, send, (driver, signal.SIGTERM)).start())
    )


@pytest.mark.servers
def test_a_jvm_that_dies_alone_is_told_as_that(spark: SparkSession, tmp_path: Path, logistic_onnx: Path) -> None:
    """As by the system that has no memory left: not as an error of a socket. The same command completes the run."""
    write_numbers(tmp_path / "in", files=4, rows=60_000, row_group=5_000)
    job = write_job(tmp_path, logistic_onnx, splits={"target_bytes": 60_000})
    read = disturbed(job, "score", lambda driver: threading.Timer(0.5, kill_spark, (driver,)).start())
    [first] = [line for line in read if line.startswith("error: ")]
    assert first == "error: Spark gave up: Spark itself ended under the driver."
    assert any("spark.driver.memory" in line for line in read)
    assert json.loads(batchscore("show", job, "stopped", "--json").stdout)["state"] == "FAILED"
    again = batchscore("run", job, "--run-id", "stopped")
    assert "rows: 240,000 in = 240,000 scored + 0 quarantined + 0 filtered" in again.stdout
