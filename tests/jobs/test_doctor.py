"""What the doctor finds, and what it leaves behind: nothing."""

from __future__ import annotations

import io
import os
import re
import socket
import subprocess
import sys
import time
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import onnxruntime
import pytest
from rich.console import Console
from typer.testing import CliRunner

from jobs.cli import app
from jobs.commands.doctor import sheet_of
from jobs.config.job import read_config
from jobs.deploying import doctor
from jobs.deploying.doctor import Examined, examine
from jobs.display.summary import Screen
from jobs.errors import ExitCode
from jobs.planning.preview import Check
from scoring.code import CODE, code_digest
from scoring.probing import Asked, Probe, executors_of, probe, worst_of
from tests.jobs.outputs import write_input, write_job

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


TWO_EXECUTORS = """
from pyspark.sql import SparkSession
from scoring.probing import Asked, executors_of
from scoring.spark.probes import probe_workers
spark = SparkSession.builder.master("local-cluster[2,1,1024]").config("spark.ui.enabled", "false").getOrCreate()
answers = probe_workers(spark, Asked(None, None), 6)
print(executors_of(answers), len(answers))
spark.stop()
"""


def states(checks: list[Check]) -> dict[str, str]:
    """By name."""
    return {check.name: check.state for check in checks}


@pytest.fixture
def healthy() -> Probe:
    """This process."""
    return probe(Asked(None, None))


def test_a_job_that_can_run_has_no_fault_and_gets_nothing_into_its_store(tmp_path: Path, logistic_onnx: Path) -> None:
    """Every check of the driver is ok, the exit code says so, and no file is left under the output."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    done = CliRunner().invoke(app, ["doctor", str(job)])
    assert done.exit_code == ExitCode.PUBLISHED, done.output
    [driver] = examine(read_config(str(job)), cluster=False)
    assert set(states(driver.checks).values()) == {"ok"}
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_workers_are_asked_for_themselves(spark: SparkSession, tmp_path: Path, logistic_onnx: Path) -> None:
    """A worker reads the input, begins a file in the output, and tells its code, which is the driver's."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    driver, cluster, worker = examine(read_config(str(job)), cluster=True)
    assert (driver.place, cluster.place) == ("driver", "cluster")
    assert states(worker.checks) == dict.fromkeys(
        ("python", "packages", "spark", "input", "output", "clock", "device"), "ok"
    )
    [python] = [check.detail for check in worker.checks if check.name == "python"]
    assert code_digest(*CODE) in python


def test_what_is_missing_is_told_and_refused(tmp_path: Path, logistic_onnx: Path) -> None:
    """Without an input, and with a file where the output's folder would be, both are told, and the exit code is 2."""
    (tmp_path / "out").write_text("no folder", encoding="utf-8")
    job = write_job(tmp_path, logistic_onnx)
    done = CliRunner().invoke(app, ["doctor", str(job)])
    assert done.exit_code == ExitCode.REFUSED
    [driver] = examine(read_config(str(job)), cluster=False)
    failed = {name for name, state in states(driver.checks).items() if state == "failed"}
    assert failed == {"input", "output", "commits"}


def test_a_store_that_does_not_answer_is_a_fault_of_its_own(
    tmp_path: Path, logistic_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody listens at the endpoint each check of that store has failed, the others go on, and the code is 2."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with socket.socket() as closed:  # bound and not listening: whoever connects is refused
        closed.bind(("127.0.0.1", 0))
        store = {
            "uri": "s3://nobody",
            "endpoint": f"http://127.0.0.1:{closed.getsockname()[1]}",
            "region": "us-east-1",
            "attempts": 1,
        }
        job = write_job(tmp_path, logistic_onnx, input={"files": "s3://nobody/in"}, storage=[store])
        done = CliRunner().invoke(app, ["doctor", str(job)])
    assert done.exit_code == ExitCode.REFUSED, done.output
    found = {row[1]: row[2] for row in (line.split(maxsplit=3) for line in done.stdout.splitlines()[1:])}
    assert {name for name, state in found.items() if state == "failed"} == {"input"}
    assert found["commits"] == found["model"] == "ok"
    assert "Could not connect to the endpoint" in done.stdout


def test_what_is_known_of_the_driver_is_told_before_workers_are_asked(
    tmp_path: Path, logistic_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that cannot be waited for takes away nothing of what was found before it."""

    def hangs(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "start_session", hangs)
    write_input(tmp_path)
    done = CliRunner().invoke(app, ["doctor", str(write_job(tmp_path, logistic_onnx)), "--cluster"])
    assert done.exit_code == ExitCode.FAILED
    assert [line.split()[:3] for line in done.stdout.splitlines()][1] == ["driver", "python", "ok"]


def test_all_that_a_run_needs_of_stores_is_looked_at(tmp_path: Path, logistic_onnx: Path) -> None:
    """Model, reference tables and the folder of metrics, too: each that is missing is a finding of its own."""
    write_input(tmp_path)
    (tmp_path / "metrics").write_text("no folder", encoding="utf-8")
    job = write_job(
        tmp_path,
        tmp_path / "no-model.onnx",
        references={"weather": str(tmp_path / "no-table.parquet")},
        metrics={"uri": str(tmp_path / "metrics")},
    )
    [driver] = examine(read_config(str(job)), cluster=False)
    found = {check.name: check.detail for check in driver.checks if check.state == "failed"}
    assert found.keys() == {"model", "references", "metrics"}
    assert f"{tmp_path}/no-model.onnx: no model is there" in found["model"]


def test_the_clock_of_a_store_is_held_against_the_drivers(
    bucket: str, tmp_path: Path, logistic_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the disk and in a bucket, by when a file was written there; ten minutes are a finding, with what to do."""
    write_input(tmp_path)
    for uri in (str(tmp_path / "out"), f"s3://{bucket}/doctor"):
        config = read_config(str(write_job(tmp_path, logistic_onnx, output={"uri": uri})))
        [driver] = examine(config, cluster=False)
        assert states(driver.checks)["clock"] == "ok"
        with monkeypatch.context() as patch:
            # Of the doctor's own clock only: one that is off in all of the process has its requests refused.
            patch.setattr(doctor, "time", SimpleNamespace(time=lambda: time.time() - 600))
            [driver] = examine(config, cluster=False)
        assert states(driver.checks)["clock"] == "failed"
        assert "let NTP set this one" in next(check.detail for check in driver.checks if check.name == "clock")


def test_the_table_fits_a_terminal_of_80_columns() -> None:
    """No line is longer, all four columns are there, and long findings are folded and not cut."""
    told = "s3://bucket/a/long/key: the identity of this worker may not write there, give it the rights of docs/iam"
    host = "ip-10-0-17-23.eu-central-1.compute.internal"
    found = [
        Examined("driver", [Check("java", "ok", "17 or newer")]),
        Examined(host, [Check("output", "failed", told)]),
    ]
    written = io.StringIO()
    console = Console(width=80, force_terminal=True, no_color=True, file=written, legacy_windows=False)
    Screen(console).sheet(sheet_of(found))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", written.getvalue()).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["where", "check", "state", "found"]
    assert all(word in " ".join(lines) for word in told.split() if "/" not in word)
    assert "ip-10-0-17-23" in " ".join(lines)


def test_a_healthy_executor_hides_no_other_of_its_host(healthy: Probe) -> None:
    """Of executors with one host and interpreter each fault of each is told, in whatever order they answer."""
    well = healthy._replace(reads="ok", writes="ok", gpus=["NVIDIA H100"], providers=["CPUExecutionProvider"])
    blind = well._replace(reads="in: not there", gpus=[], providers=["!ImportError: x"], parent=well.parent + 1)
    denied = well._replace(writes="out: denied", parent=well.parent + 2)
    for answers in permutations((well, blind, denied)):
        [told] = worst_of(answers)
        assert (told.reads, told.writes, told.gpus) == ("in: not there", "out: denied", [])
        assert told.providers == ["!ImportError: x"]
    elsewhere = well._replace(host="another")
    assert executors_of((well, well, blind, denied, elsewhere)) == 4
    assert worst_of((well, elsewhere)) == sorted((well, elsewhere), key=lambda one: one.host)


@pytest.mark.parametrize(
    ("answers", "asked", "state", "told"),
    [
        ([1, 2], 2, "ok", "2 at once, by 1 worker; 2 of 2 executors answered"),
        ([1, 1], 2, "unchecked", "; 1 of 2 executors answered, asked twice. Of the others nothing is known"),
        ([2, 2], 1, "ok", "; 2 of 2 executors answered"),
    ],
    ids=["late", "missing", "at once"],
)
def test_executors_that_are_late_are_asked_again(
    monkeypatch: pytest.MonkeyPatch, healthy: Probe, answers: list[int], asked: int, state: str, told: str
) -> None:
    """Where fewer answer than the settings ask for there is one more question, and how many did is told."""
    settings = {"spark.master": "yarn", "spark.executor.instances": "2"}
    questions = []

    def ask(_: object, __: Asked, tasks: int) -> list[Probe]:
        questions.append(tasks)
        return [healthy._replace(parent=number) for number in range(answers[len(questions) - 1])]

    monkeypatch.setattr(doctor, "probe_workers", ask)
    monkeypatch.setattr(doctor, "parallelism", lambda _: 1)
    session: Any = SimpleNamespace(conf=settings)
    check, workers = doctor._asked(session, Asked(None, None))
    assert (check.state, told in check.detail) == (state, True), check.detail
    assert questions == [2] * asked
    assert [one.host for one in workers] == [healthy.host]


@pytest.mark.servers
@pytest.mark.timeout(300)
def test_executors_are_told_apart(tmp_path: Path) -> None:
    """Of a cluster with two executors on this host two answer, however often each is asked."""
    program = tmp_path / "program.py"
    program.write_text(TWO_EXECUTORS)
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "2 6\n", done.stderr


def test_a_worker_of_another_spark_is_a_fault(healthy: Probe) -> None:
    """Both versions are told."""
    there = healthy._replace(packages={**healthy.packages, "pyspark": "3.5.1"})
    assert doctor._same_spark("3.5.1", there).state == "ok"
    assert "pyspark 3.5.1, the driver's Spark is 4.1.0" in doctor._same_spark("4.1.0", there).detail


def test_a_gpu_that_is_asked_for_and_not_there_is_a_fault(tmp_path: Path, logistic_onnx: Path, healthy: Probe) -> None:
    """By what onnxruntime can run on, by what nvidia-smi shows, and by an onnxruntime that cannot be imported."""
    config = read_config(str(write_job(tmp_path, logistic_onnx, scoring={"device": "cuda"})))
    cpu = healthy._replace(providers=["CPUExecutionProvider"], gpus=["NVIDIA H100"])
    both = cpu._replace(providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    broken = healthy._replace(providers=["!ImportError: libcudart.so.12"])
    found = [doctor._device(config, one) for one in (cpu, both._replace(gpus=[]), broken, both)]
    assert [check.state for check in found] == ["failed", "failed", "failed", "ok"]
    assert "Install onnxruntime-gpu" in found[0].detail
    assert "libcudart.so.12" in found[2].detail


def test_a_worker_with_other_code_or_packages_is_a_fault(healthy: Probe) -> None:
    """Scores would depend on where a row was; both versions are told."""
    other = healthy._replace(packages={**healthy.packages, "onnxruntime": "1.0"})
    told = doctor._alike(healthy, other)
    assert (told.state, told.detail) == ("failed", f"onnxruntime 1.0, the driver has {onnxruntime.__version__}")
    assert doctor._alike(healthy, healthy._replace(code="0" * 16)).state == "failed"
    assert doctor._packages(healthy._replace(packages={"onnxruntime": "1", "onnxruntime-gpu": "1"})).state == "failed"
    assert doctor._python(healthy._replace(python="3.9.1 /usr/bin/python3")).state == "failed"


@pytest.mark.parametrize(("offset", "state"), [(0.0, "ok"), (60.0, "failed"), (-60.0, "failed")])
def test_a_clock_that_is_off_is_a_fault(healthy: Probe, offset: float, state: str) -> None:
    """An answer was made between question and answer, or its clock is another."""
    now = time.time()
    assert doctor._clock(healthy._replace(began=now + offset), now - 1, now + 1).state == state
