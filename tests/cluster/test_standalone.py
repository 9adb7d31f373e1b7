"""Jobs on Spark's own cluster: a master and two workers, which have nothing of ours but what was packed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from jobs.errors import ExitCode
from tests.cluster.jobs import ROOT, published, put_flights, record_of, run_here, told, write_flights_job

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.conftest import Submitter


def test_the_demo_is_scored_by_workers_without_the_checkout(
    standalone: str, environment: str, submitter: Submitter, tmp_path: Path
) -> None:
    """The driver here and the packed Python there give the scores of this machine, from both workers."""
    prepare = [sys.executable, str(ROOT / "examples" / "flights" / "prepare.py"), str(tmp_path / "data")]
    subprocess.run(prepare, check=True, capture_output=True)
    put_flights(tmp_path / "data", f"{tmp_path}/root")
    there = write_flights_job(submitter.folder / "flights.yaml", f"{tmp_path}/root")
    here = write_flights_job(
        tmp_path / "here.yaml", f"{tmp_path}/root", output={"uri": f"{tmp_path}/here", "passthrough": ["flight_id"]}
    )
    memory = ["--conf", "spark.executor.memory=512m"]
    options = ["--master", standalone, "--environment", environment, *memory]
    done = submitter.run("flights.yaml", "--run-id", "there", *options)
    assert done.returncode == ExitCode.PUBLISHED, done.stderr + done.stdout
    expected, record = run_here(here, "here"), record_of(there, "there")
    assert told(record) == told(expected)
    columns = ("flight_id", "p_late")
    assert published(there, "there", *columns).equals(published(here, "here", *columns))
    assert {"workers: 2" in line for line in done.stdout.splitlines() if line.startswith("workers: ")} == {True}
