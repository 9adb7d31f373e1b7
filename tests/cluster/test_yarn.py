"""Jobs in YARN's cluster mode, from packed code and a packed Python alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import yaml

from etl.runs.storage import storage_for
from jobs.errors import ExitCode
from jobs.record import RunState
from tests.cluster.jobs import ROOT, published, put, put_flights, record_of, run_here, told, write_flights_job
from tests.numbers_job import FEATURES, logistic_scores, write_numbers
from tests.slow_model import write_slow_model

if TYPE_CHECKING:
    from tests.cluster.conftest import Submitter
    from tests.cluster.servers import Yarn

RUN = "flights-2013-10-01"


@pytest.fixture(scope="session")
def flights(yarn: Yarn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the prepared flights, which lie on HDFS, too."""
    folder = tmp_path_factory.mktemp("flights")
    prepare = [sys.executable, str(ROOT / "examples" / "flights" / "prepare.py"), str(folder / "data")]
    subprocess.run(prepare, check=True, capture_output=True)
    put_flights(folder / "data", f"{yarn.url}/flights")
    put_flights(folder / "data", f"{folder}/here")
    return folder


def test_the_demo_is_scored_from_what_was_packed(
    yarn: Yarn, flights: Path, submitter: Submitter, on_yarn: list[str]
) -> None:
    """The demo job gives the same scores, and sets the same rows aside, as on this machine; its id is of its date."""
    there = write_flights_job(submitter.folder / "flights.yaml", f"{yarn.url}/flights")
    here = write_flights_job(flights / "here.yaml", f"{flights}/here")
    done = submitter.run("flights.yaml", "--logical-date", "2013-10-01", *on_yarn)
    assert done.returncode == ExitCode.PUBLISHED, done.stderr
    expected, record = run_here(here, RUN), record_of(there, RUN)
    assert told(record) == told(expected)
    columns = ("flight_id", "carrier", "p_late")
    assert published(there, RUN, *columns).equals(published(here, RUN, *columns))
    assert f"run {RUN}: PARTIALLY_SUCCEEDED" in done.stderr
    assert "Failed to add file" not in yarn.log_of(RUN)
    again = submitter.run("flights.yaml", "--logical-date", "2013-10-01", *on_yarn)
    assert (again.returncode, record_of(there, RUN)) == (ExitCode.PUBLISHED, record)


def test_exit_codes_are_those_of_the_record(
    yarn: Yarn, flights: Path, submitter: Submitter, on_yarn: list[str]
) -> None:
    """YARN knows success and failure: what was held back is 4, what was refused 2, and what was never started 3."""
    root = f"{yarn.url}/flights"
    job = write_flights_job(submitter.folder / "held.yaml", root, budgets={})
    done = submitter.run("held.yaml", "--run-id", "held", *on_yarn)
    assert (done.returncode, record_of(job, "held").state) == (ExitCode.NOT_PUBLISHED, RunState.HELD_BACK), done.stderr
    write_flights_job(submitter.folder / "none.yaml", root, model={"bundle": f"{root}/no-such-bundle"})
    done = submitter.run("none.yaml", "--run-id", "refused", *on_yarn)
    assert done.returncode == ExitCode.REFUSED, done.stderr
    done = submitter.run("held.yaml", "--run-id", "none", *on_yarn, "--conf", "spark.driver.memory=100g")
    assert done.returncode == ExitCode.UNKNOWN, done.stderr
    assert "run none left no record of this try" in done.stderr


def test_an_executor_that_is_killed_loses_and_doubles_nothing(
    yarn: Yarn, tmp_path: Path, submitter: Submitter, on_yarn: list[str]
) -> None:
    """SIGKILL of an executor's container while it scores: YARN gives another one, and each row is scored once."""
    table = write_numbers(tmp_path / "in", files=12, rows=500, row_group=500)
    root = f"{yarn.url}/numbers"
    put(tmp_path / "in", f"{root}/in")
    put(write_slow_model(tmp_path / "slow.onnx", 60_000), f"{root}/slow.onnx")
    job = submitter.folder / "numbers.yaml"
    config = {
        "api_version": "batchscore/1",
        "name": "numbers",
        "input": {"files": f"{root}/in"},
        "model": {"onnx": f"{root}/slow.onnx", "inputs": {"X": list(FEATURES)}},
        "output": {"uri": f"{root}/out", "passthrough": ["id"]},
        "splits": {"task_bytes": 1},
        "scoring": {"batch_rows": 100, "overlap": "never"},
    }
    job.write_text(yaml.safe_dump(config), encoding="utf-8")
    with submitter.start("numbers.yaml", "--run-id", "killed", *on_yarn) as process:
        kill_an_executor(f"{root}/out/_batchscore/runs/killed/receipts", process)
        _, err = process.communicate(timeout=400)
    assert process.returncode == ExitCode.PUBLISHED, err
    scores = dict(zip(*published(job, "killed", "id", "p").to_pydict().values(), strict=True))
    assert scores == pytest.approx(logistic_scores(table), abs=1e-6)
    assert len(published(job, "killed", "id")) == table.num_rows


def kill_an_executor(receipts: str, submission: subprocess.Popen[str]) -> None:
    """As soon as the first split is committed; its JVM and the Python workers below it."""
    storage, folder = storage_for(receipts)
    while not storage.names(folder):
        assert submission.poll() is None, "the job ended before a split was scored"
        time.sleep(0.5)
    [executor] = [process for process in psutil.process_iter(["cmdline"]) if is_executor(process.info["cmdline"] or [])]
    for process in [executor, *executor.children(recursive=True)]:
        os.kill(process.pid, signal.SIGKILL)


def is_executor(words: list[str]) -> bool:
    """Whether it is the JVM of one, and not the shell that started it."""
    return (
        words[:1] != ["bash"]
        and "java" in Path(words[0] if words else "").name
        and any("YarnCoarseGrainedExecutorBackend" in word for word in words)
    )
