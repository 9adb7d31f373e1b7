"""What is sent to a service, and how long it is waited for; its command line is stood in for, no service is here."""

from __future__ import annotations

import filecmp
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from etl.runs.storage import storage_for
from jobs.cli import app
from jobs.config.job import read_config
from jobs.deploying import submitting
from jobs.errors import ExitCode
from jobs.planning.plan import target_of
from tests.jobs.outputs import run_job, write_input, write_job

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CODE = f"code-{'0' * 64}.zip"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where jobs/main.py is, and a zip beside it; the stage s3://stage is a folder beside it."""
    here = str(tmp_path / "stage")
    monkeypatch.setattr(submitting, "storage_for", lambda uri: storage_for(uri.replace("s3://stage", here)))
    (tmp_path / "home" / "jobs").mkdir(parents=True)
    (tmp_path / "home" / "jobs" / "main.py").write_text("main", encoding="utf-8")
    (tmp_path / "home" / CODE).write_text("zip", encoding="utf-8")
    return tmp_path / "home"


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that writes down what it is asked, and gives the answers of a file, one after the other."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "aws"
    body = (
        f"import json, pathlib, sys\nfolder = pathlib.Path({str(folder)!r})\n"
        "with (folder / 'asked').open('a') as log: log.write(json.dumps(sys.argv[1:]) + chr(10))\n"
        "if (folder / 'meanwhile').exists(): exec((folder / 'meanwhile').read_text())\n"
        "first, *others = (folder / 'answers').read_text().splitlines()\n"
        "(folder / 'answers').write_text(chr(10).join(others))\nfails = ' ' in first\n"
        "print(first, file=sys.stderr if fails else sys.stdout)\nsys.exit(254 if fails else 0)\n"
    )
    (folder / "aws.py").write_text(body, encoding="utf-8")
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {folder}/aws.py "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(submitting, "_PAUSE", 0.01)
    return folder


def submit(job: Path, home: Path, run_id: str, *more: str) -> Any:
    """To EMR, with a stage that is a folder of this disk."""
    places = {"stage": "s3://stage", "cluster": "j-1", "region": "eu-west-1"}
    words = [word for name, value in places.items() for word in ("--place", f"{name}={value}")]
    options = ["--target", "emr", "--home", str(home), "--code", str(home / CODE), "--run-id", run_id, *words]
    options += ["--environment", "s3://b/environment.tar.gz"]
    return CliRunner().invoke(app, ["submit", str(job), *options, *more])


def asked_of(aws: Path) -> list[list[str]]:
    """All that aws was asked, in order."""
    log = aws / "asked"
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


def test_a_step_is_waited_for_and_without_a_record_it_is_unknown(
    tmp_path: Path, logistic_onnx: Path, home: Path, aws: Path
) -> None:
    """EMR is asked until the step has ended; it says that it is complete, and there is no record: nobody knows."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    (aws / "answers").write_text("s-1\nPENDING\nRUNNING\nCOMPLETED\n", encoding="utf-8")
    done = submit(job, home, "none")
    assert done.exit_code == ExitCode.UNKNOWN
    assert "emr says COMPLETED, and run none left no record of this try" in done.stderr
    add, *looks = asked_of(aws)
    assert add[:2] == ["emr", "add-steps"]
    step = ["emr", "describe-step", "--cluster-id", "j-1", "--step-id", "s-1", "--region", "eu-west-1"]
    assert looks == [[*step, "--query", "Step.Status.State", "--output", "text"]] * 3
    stage = tmp_path / "stage"
    assert (stage / "none" / "main.py").read_text(encoding="utf-8") == "main"
    assert (stage / "none" / job.name).read_text(encoding="utf-8") == job.read_text(encoding="utf-8")
    assert (stage / CODE).read_text(encoding="utf-8") == "zip"


def test_a_run_that_is_published_starts_no_cluster(
    spark: SparkSession, tmp_path: Path, logistic_onnx: Path, home: Path, aws: Path
) -> None:
    """It ends as `run` does: 0 with the same words, and 2 under other settings; nothing is sent or asked."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    run_job(job, "done")
    done = submit(job, home, "done")
    here = CliRunner().invoke(app, ["run", str(job), "--run-id", "done"])
    assert (done.exit_code, here.exit_code) == (ExitCode.PUBLISHED, ExitCode.PUBLISHED), done.output
    assert done.stdout == here.stdout
    assert done.stderr == "it was published before; nothing was done\n"
    told = yaml.safe_load(job.read_text(encoding="utf-8"))
    told["output"]["mode"] = "overwrite"
    job.write_text(yaml.safe_dump(told), encoding="utf-8")
    done = submit(job, home, "done")
    assert done.exit_code == ExitCode.REFUSED
    assert "with other settings: output.mode." in done.stderr
    assert asked_of(aws) == []
    assert not (tmp_path / "stage").exists()


def record_file(job: Path, run_id: str) -> Path:
    """Where a run's record is."""
    return Path(target_of(read_config(str(job)), run_id, scratch=False).layout.record)


@pytest.mark.parametrize("damage", ["mkdir(parents=True)", "parent.mkdir(parents=True); there.write_text('{')"])
def test_a_record_that_cannot_be_read_after_the_job_is_unknown(
    tmp_path: Path, logistic_onnx: Path, home: Path, aws: Path, damage: str
) -> None:
    """No answer of the store, or a damaged record, is no failure of the job, which has ended: it is told what is so."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    there = record_file(job, "r")
    meanwhile = f"if sys.argv[2] == 'describe-step': there = pathlib.Path({str(there)!r}); there.{damage}"
    (aws / "meanwhile").write_text(meanwhile, encoding="utf-8")
    (aws / "answers").write_text("s-1\nCOMPLETED\n", encoding="utf-8")
    done = submit(job, home, "r")
    assert done.exit_code == ExitCode.UNKNOWN
    assert "emr says COMPLETED, and the record of run r, which says how it ended, cannot be read" in done.stderr
    assert str(there) in done.stderr
    assert f"Ask again: batchscore show {job} r\n" in done.stderr


def test_a_store_that_does_not_answer_before_submission_is_a_refusal(
    tmp_path: Path, logistic_onnx: Path, home: Path, aws: Path
) -> None:
    """Nothing was submitted: 2, and aws was asked nothing."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    record_file(job, "r").mkdir(parents=True)
    done = submit(job, home, "r")
    assert done.exit_code == ExitCode.REFUSED
    assert "unexpected" not in done.stderr
    assert asked_of(aws) == []


def test_a_step_that_is_not_taken_is_refused_with_what_was_said(
    tmp_path: Path, logistic_onnx: Path, home: Path, aws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the program says is told, and so is a program that is not there."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    (aws / "answers").write_text("An error occurred (ValidationException)\n", encoding="utf-8")
    done = submit(job, home, "r")
    assert done.exit_code == ExitCode.REFUSED
    assert "`aws emr add-steps` ended with 254: An error occurred (ValidationException)" in done.stderr
    monkeypatch.setenv("PATH", "/nowhere")
    done = submit(job, home, "r")
    assert done.exit_code == ExitCode.REFUSED
    assert "aws is not on PATH" in done.stderr


ROOT = Path(__file__).parents[2]
WAITS = "#!/bin/sh\ntouch {folder}/asked\nexec sleep 100\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_waiting_and_says_what_becomes_of_the_job(
    tmp_path: Path, logistic_onnx: Path, aws: Path, number: signal.Signals
) -> None:
    """Exit code 3: spark-submit may not have sent it yet; how to look at the run, and how to stop it there."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    for name in ("spark-submit", "java"):
        (aws / name).write_text(WAITS.format(folder=aws), encoding="utf-8")
        (aws / name).chmod(0o755)
    home = tmp_path / "spark"
    home.mkdir()
    (home / "bin").symlink_to(aws)
    told_of = {"SPARK_HOME": str(home), "HADOOP_CONF_DIR": str(tmp_path)}
    environment = {**os.environ, **told_of, "PYSPARK_PYTHON": sys.executable}
    command = [str(ROOT / "spark-submit.sh"), str(job), "--run-id", "r", "--target", "yarn", "--deploy-mode", "cluster"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        until = time.monotonic() + 60
        while not (aws / "asked").exists() and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(number)
        told = process.stderr.read()
        assert process.wait() == ExitCode.UNKNOWN, told
    assert first == "submitted to yarn: run r\n"
    assert "error: a signal ended the waiting for run r, and nothing else: " in told
    assert ": the cluster may have taken the job, which then goes on.\n" in told
    assert f"  look at it: batchscore status {job} r --follow\n" in told
    assert "  stop it: yarn application -kill ID" in told


@pytest.mark.parametrize("sets", [(), ("name=other",)])
def test_a_signal_while_a_step_runs_says_that_it_goes_on(
    tmp_path: Path,
    logistic_onnx: Path,
    home: Path,
    aws: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    sets: tuple[str, ...],
) -> None:
    """Exit code 3; what to type finds the run, by its output's place where --set may have moved that."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    (aws / "answers").write_text("s-1\nPENDING\n", encoding="utf-8")

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    # Of this module alone: threads of py4j sleep, too.
    monkeypatch.setattr("jobs.deploying.submitting.time", SimpleNamespace(sleep=interrupted))
    done = submit(job, home, "r", *[word for one in sets for word in ("--set", one)])
    assert done.exit_code == ExitCode.UNKNOWN
    where = read_config(str(job)).output.uri if sets else job
    why = "a signal ended the waiting for run r, and nothing else: the job goes on.\n"
    assert f"error: {why}  look at it: batchscore status {where} r --follow\n" in done.stderr
    stop = "aws emr cancel-steps --cluster-id j-1 --step-ids s-1 --step-cancellation-option TERMINATE_PROCESS"
    assert f"  stop it: {stop}" in done.stderr


THROTTLED = "An error occurred (ThrottlingException) when calling the DescribeStep operation: Rate exceeded"
EXPIRED = "An error occurred (ExpiredTokenException) when calling the DescribeStep operation: expired"


def test_a_look_that_fails_is_told_once_and_asked_again(
    tmp_path: Path, logistic_onnx: Path, home: Path, aws: Path
) -> None:
    """The job runs on meanwhile: nine failures in a row, and again nine, are no ending, and each text is told once."""
    write_input(tmp_path)
    looks = [*[THROTTLED] * 9, "RUNNING", *[EXPIRED] * 8, THROTTLED, "COMPLETED"]
    (aws / "answers").write_text("\n".join(["s-1", *looks]), encoding="utf-8")
    done = submit(write_job(tmp_path, logistic_onnx), home, "r")
    assert done.exit_code == ExitCode.UNKNOWN
    assert "emr says COMPLETED" in done.stderr
    assert (done.stderr.count(THROTTLED), done.stderr.count(EXPIRED)) == (1, 1)
    assert f"asking again: `aws emr describe-step` ended with 254: {THROTTLED}\n" in done.stderr


def test_after_ten_failed_looks_in_a_row_nobody_waits_and_it_is_said_how_to_go_on(
    tmp_path: Path, logistic_onnx: Path, home: Path, aws: Path
) -> None:
    """No refusal, which would let somebody begin again beside it: unknown, with how to look and how to stop it."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    (aws / "answers").write_text("\n".join(["s-1", "RUNNING", *[EXPIRED] * 30]), encoding="utf-8")
    done = submit(job, home, "r")
    assert done.exit_code == ExitCode.UNKNOWN
    assert len(asked_of(aws)) == 1 + 1 + 10
    assert "nobody waits for run r any more, since 10 looks in a row failed" in done.stderr
    assert f"{EXPIRED}: the job goes on.\n  look at it: batchscore status {job} r --follow\n" in done.stderr
    assert "  stop it: aws emr cancel-steps --cluster-id j-1 --step-ids s-1 " in done.stderr


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('Read timeout on endpoint URL: "https://elasticmapreduce.eu-west-1.amazonaws.com/"', ExitCode.UNKNOWN),
        ('Connection was closed before we received a valid response from endpoint URL: "https://x/"', ExitCode.UNKNOWN),
        ("An error occurred (InternalServerException) when calling the AddJobFlowSteps operation", ExitCode.UNKNOWN),
        ("An error occurred (ThrottlingException) when calling the AddJobFlowSteps operation", ExitCode.REFUSED),
        ('Could not connect to the endpoint URL: "https://x/"', ExitCode.REFUSED),
        ("Unable to locate credentials. You can configure credentials", ExitCode.REFUSED),
    ],
)
def test_a_submission_without_an_answer_may_have_been_taken(
    tmp_path: Path, logistic_onnx: Path, home: Path, aws: Path, *, said: str, code: int
) -> None:
    """A request that was sent, and got no answer, is unknown; what the service refuses, or aws itself, is 2."""
    write_input(tmp_path)
    (aws / "answers").write_text(said, encoding="utf-8")
    done = submit(write_job(tmp_path, logistic_onnx), home, "r")
    assert done.exit_code == code
    assert said in done.stderr
    assert ("the service may have taken the job" in done.stderr) == (code == ExitCode.UNKNOWN)


def test_what_a_digest_names_is_sent_once(tmp_path: Path, logistic_onnx: Path, home: Path, aws: Path) -> None:
    """The zip that is there stays as it is; the config, which may have changed, is sent again."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    storage, there = storage_for(str(tmp_path / "stage" / CODE))
    storage.replace(there, b"sent before")
    (aws / "answers").write_text("s-1\nCOMPLETED\ns-2\nCOMPLETED\n", encoding="utf-8")
    submit(job, home, "r")
    job.write_text(job.read_text(encoding="utf-8") + "report: false\n", encoding="utf-8")
    submit(job, home, "r")
    assert storage.read_bytes(there) == b"sent before"
    assert "report: false" in (tmp_path / "stage" / "r" / job.name).read_text(encoding="utf-8")


def test_a_packed_python_is_sent_a_piece_at_a_time(tmp_path: Path, logistic_onnx: Path, home: Path, aws: Path) -> None:
    """Its bytes arrive, and the memory that this takes is a part of its size."""
    write_input(tmp_path)
    packed = tmp_path / f"environment-{'1' * 16}.tar.gz"
    packed.write_bytes(os.urandom(1 << 20) * 64)
    job = write_job(tmp_path, logistic_onnx)
    (aws / "answers").write_text("s-1\nCOMPLETED\n", encoding="utf-8")
    tracemalloc.start()
    done = submit(job, home, "r", "--environment", str(packed))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert done.exit_code == ExitCode.UNKNOWN, done.stderr
    assert filecmp.cmp(tmp_path / "stage" / packed.name, packed, shallow=False)
    assert peak < packed.stat().st_size / 2
