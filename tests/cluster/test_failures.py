"""What a person sees, all of it, of jobs that fail on Spark's own cluster."""

from __future__ import annotations

import re
import sys
import venv
from typing import TYPE_CHECKING

import pytest

from jobs.errors import ExitCode
from jobs.record import RunState
from tests.cluster.jobs import record_of
from tests.jobs.outputs import write_input, write_job

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.conftest import Submitter

PHASE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ [a-z_]+(: \d+ of \d+ splits)?"
"""A line of progress in a log."""


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The driver has all, and workers start a Python without any package."""
    venv.create(tmp_path / "bare", symlinks=True)
    return {"PYSPARK_PYTHON": str(tmp_path / "bare" / "bin" / "python"), "PYSPARK_DRIVER_PYTHON": sys.executable}


def test_a_failure_is_one_cause_and_no_trace(
    standalone: str, submitter: Submitter, tmp_path: Path, logistic_onnx: Path, bare: dict[str, str]
) -> None:
    """Between the phases and the line that goes on there is the cause, the worker, the hint, and nothing of Java."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    done = submitter.run(str(job), "--run-id", "r", "--master", standalone, **bare)
    assert done.returncode == ExitCode.FAILED, done.stderr
    lines = [line for line in done.stderr.splitlines() if not re.fullmatch(PHASE, line)]
    assert lines[0] == "run r"
    assert (
        lines[1]
        == f"error: Spark gave up: the Python of a worker, {bare['PYSPARK_PYTHON']}, lacks the package pyarrow."
    )
    assert re.fullmatch(r"  on 127\.0\.0\.1 \(executor \d\)", lines[2])
    assert lines[3].startswith("Pack a Python that has it and hand it to the workers: `batchscore pack --upload URI`")
    assert lines[4].startswith("What is scored is kept; run the same id again to go on.")
    assert re.fullmatch(r"Go on with: \S+spark-submit\.sh .* --run-id r .*", lines[5])
    assert len(lines) == 6
    record = record_of(job, "r")
    assert record.state is RunState.FAILED
    assert record.error is not None
    assert "lacks the package pyarrow" in record.error.message


def test_the_doctor_finds_it_before(
    standalone: str, submitter: Submitter, tmp_path: Path, logistic_onnx: Path, bare: dict[str, str]
) -> None:
    """With the options of the run: the driver is well, the workers are not, and the code is 2."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    done = submitter.run(str(job), "--doctor", "--master", standalone, **bare)
    assert done.returncode == ExitCode.REFUSED, done.stderr
    driver = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("driver ")]
    assert set(driver) == {"ok"}
    assert re.search(r"cluster +tasks +failed +no worker could be asked: .* lacks the package pyarrow", done.stdout)
    assert "\tat " not in done.stdout + done.stderr
