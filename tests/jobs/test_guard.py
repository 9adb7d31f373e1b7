"""A run is measured while it goes on, its limits are noticed, and one that is over is stopped where that is asked."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from etl.runs.layout import Layout
from jobs.cli import app
from jobs.config.job import read_config
from jobs.errors import ExitCode, LimitPassed
from jobs.history.runs import find_run, look_at
from jobs.monitoring.guard import Guard
from jobs.record import RunState
from jobs.settling.decisions import publish_run
from tests.jobs.outputs import run_job, write_job
from tests.numbers_job import logistic_scores, published_scores, write_numbers
from tests.slow_model import write_slow_model

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

    from jobs.monitoring.limits import Breach

SPLITS = 8
ROWS = 10_000
TURNS = 180_000
"""Of the slow model's loop: some tenths of a second."""


@pytest.fixture(scope="module")
def slow_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The logistic model, which takes its time for each call."""
    return write_slow_model(tmp_path_factory.mktemp("slow") / "slow.onnx", TURNS)


def write_slow_job(folder: Path, model: Path, **sections: Any) -> Path:
    """A job of so many splits, each a task of its own with one call of the model."""
    scoring = {"batch_rows": ROWS, "overlap": "never"}
    return write_job(folder, model, splits={"task_bytes": 1}, scoring=scoring, **sections)


def price(**budget: Any) -> dict[str, Any]:
    """An hour costs 3,600, so that a second costs 1."""
    return {"prices": {"laptop": 3600.0}, "driver": {"instance": "laptop"}, "budget": budget}


@pytest.fixture
def rows(tmp_path: Path) -> pa.Table:
    """Files of a split each."""
    return write_numbers(tmp_path / "in", files=SPLITS, rows=ROWS // SPLITS, row_group=ROWS)


def wait_for_rest(spark: SparkSession) -> None:
    """Until Spark has no job any more."""
    until = time.monotonic() + 20
    while spark.sparkContext.statusTracker().getActiveJobsIds():
        assert time.monotonic() < until, "Spark goes on"
        time.sleep(0.05)


def receipts_of(folder: Path) -> dict[str, bytes]:
    """Receipts of run `r`, by name."""
    return {path.name: path.read_bytes() for path in Path(Layout(str(folder / "out"), "r").receipts).glob("*.json")}


def test_a_run_that_is_over_is_stopped_and_goes_on(
    spark: SparkSession, tmp_path: Path, slow_onnx: Path, rows: pa.Table
) -> None:
    """With `fail` scoring is stopped, not long after the limit; with a higher one the same id goes on to all scores."""
    heard = tmp_path / "heard"
    tell = {
        "command": [sys.executable, "-c", f"import sys; open({str(heard)!r}, 'a').write(sys.stdin.read() + chr(10))"]
    }
    sla = {"max_duration": "1s", "on_breach": "fail"}
    job = write_slow_job(tmp_path, slow_onnx, sla=sla, hooks={"sla": [tell]}, cost=price())
    with pytest.raises(LimitPassed, match=r"it took \d(\.\d+)? s; sla.max_duration is 1(\.0+)? s.* the same id"):
        run_job(job, "r")
    stopped = look_at(find_run(str(job), "r"))
    assert stopped.record is not None
    assert stopped.plan is not None
    assert len(stopped.plan.splits) == SPLITS
    assert stopped.splits_done < SPLITS
    assert (stopped.record.state, stopped.record.error.kind) == (RunState.FAILED, "LimitPassed")  # type: ignore[union-attr]
    assert [one.limit for one in stopped.record.breaches if not one.is_projected] == ["sla.max_duration"]
    told = [json.loads(line) for line in heard.read_text().splitlines()]
    assert {(one["event"], one["breach"]["limit"]) for one in told} == {("sla", "sla.max_duration")}
    assert told[-1]["breach"]["is_projected"] is False
    assert len(told) == len({one["breach"]["is_projected"] for one in told}), "each is told once"
    wait_for_rest(spark)
    kept = receipts_of(tmp_path)
    again = run_job(
        write_slow_job(tmp_path, slow_onnx, sla={"max_duration": "1h", "on_breach": "fail"}, cost=price()), "r"
    )
    assert again.state is RunState.SUCCEEDED
    # A task that is stopped may end the split that it is at. Whatever was kept stays, and no split has two receipts.
    assert 0 < again.splits_scored_now <= SPLITS - stopped.splits_done
    after = receipts_of(tmp_path)
    assert len(after) == SPLITS
    assert kept.items() <= after.items()
    assert again.breaches == ()
    found = published_scores(tmp_path / "out" / "run_id=r")
    assert found == pytest.approx(logistic_scores(rows), abs=1e-6)
    # A second costs 1: each try what it took, and the last one tells of both.
    assert stopped.record.cost is not None
    assert again.cost is not None
    assert again.cost.amount == pytest.approx(again.seconds)
    assert again.cost.earlier == pytest.approx(stopped.record.seconds)
    assert again.cost.per_million_rows == pytest.approx((again.seconds + stopped.record.seconds) / ROWS * 1e6)
    assert not [thread for thread in threading.enumerate() if thread.name == "batchscore-guard"]


def test_what_was_scored_over_the_budget_is_held_back(
    spark: SparkSession, tmp_path: Path, logistic_onnx: Path, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A price a million rows that only the end tells holds the run back with `fail`; a person may publish it."""
    monkeypatch.setattr("jobs.monitoring.guard._LOOK_SECONDS", 600.0)
    cost = price(per_million_rows=0.01) | {"on_breach": "fail"}
    job = write_job(tmp_path, logistic_onnx, cost=cost)
    record = run_job(job, "r")
    assert record.state is RunState.HELD_BACK
    assert "cost.budget.per_million_rows is 0.01" in record.error.message  # type: ignore[union-attr]
    published = publish_run(find_run(str(job), "r"), accept_errors=0, reason="it is worth it")
    assert published.state is RunState.SUCCEEDED
    assert [one.limit for one in published.breaches] == ["cost.budget.per_million_rows"]
    done = CliRunner().invoke(app, ["history", str(job), "--last", "1"])
    assert done.exit_code == 0
    assert "cost USD" in done.output


def test_a_warning_publishes(spark: SparkSession, tmp_path: Path, logistic_onnx: Path, rows: pa.Table) -> None:
    """With `warn` a run that is late, and over its budget, is published; its record and its summary say so."""
    sla = {"finish_by": "2026-01-01T00:00:00Z"}
    job = write_job(tmp_path, logistic_onnx, sla=sla, cost=price(run=0.001))
    done = CliRunner().invoke(app, ["run", str(job), "--run-id", "r"])
    assert done.exit_code == 0, done.output
    assert done.output.count("over the limit: ") == 2
    record = look_at(find_run(str(job), "r")).record
    assert record is not None
    assert record.state is RunState.SUCCEEDED
    assert {one.limit: one.is_projected for one in record.breaches} == {
        "sla.finish_by": False,
        "cost.budget.run": False,
    }
    assert published_scores(tmp_path / "out" / "run_id=r").keys() == set(rows.column("id").to_pylist())


def test_a_deadline_that_is_over_is_no_reason_to_start_spark(tmp_path: Path, slow_onnx: Path, rows: pa.Table) -> None:
    """With `fail` nothing is scored once the deadline is over, and the command ends with 1."""
    job = write_slow_job(tmp_path, slow_onnx, sla={"finish_by": "2026-01-01T00:00:00Z", "on_breach": "fail"})
    done = CliRunner().invoke(app, ["run", str(job), "--run-id", "r"])
    assert done.exit_code == ExitCode.FAILED, done.output
    assert "sla.finish_by" in done.output
    assert look_at(find_run(str(job), "r")).splits_done == 0


def test_a_trial_has_no_limits(spark: SparkSession, tmp_path: Path, logistic_onnx: Path, rows: pa.Table) -> None:
    """A trial is measured, and neither stopped nor held back."""
    job = write_job(tmp_path, logistic_onnx, sla={"max_duration": 0.001, "on_breach": "fail"}, cost=price())
    record = run_job(job, "r", limit=10)
    assert record.state is RunState.SUCCEEDED
    assert record.breaches == ()
    assert record.cost is not None
    assert record.cost.is_local
    assert record.cost.executor_hours * 3600 <= record.seconds * (1 + 1e-9)
    assert record.cost.cores == spark.sparkContext.defaultParallelism


def test_what_will_be_late_is_noticed_while_it_scores(
    spark: SparkSession, tmp_path: Path, logistic_onnx: Path, rows: pa.Table
) -> None:
    """At a split in some seconds the end is expected after the limit, long before the limit is passed."""
    job = write_job(tmp_path, logistic_onnx, splits={"task_bytes": 1}, sla={"max_duration": 12})
    record = run_job(job, "r")
    done = find_run(str(job), "r")
    running = done._replace(layout=Layout(str(tmp_path / "again"), "r"))
    shutil.copytree(done.layout.state, running.layout.state)
    shutil.rmtree(running.layout.receipts)
    noticed: list[Breach] = []
    guard = Guard(read_config(str(job)), running, is_trial=False, tell=noticed.append)
    with guard.watching():
        # Not when the first run ended: its page was written behind that, and the files were copied.
        began = datetime.now(UTC)
        guard.begin(record.model_copy(update={"started_at": began}))
        guard.phase("score")
        time.sleep(2)
        name = "000000"
        receipt = done.storage.read_bytes(done.layout.receipt(name)) or b""
        running.storage.create_if_absent(running.layout.receipt(name), receipt)
        until = time.monotonic() + 20
        while not noticed and time.monotonic() < until:
            time.sleep(0.05)
    [one] = noticed
    assert one.is_projected
    assert one.limit == "sla.max_duration"
    # One of eight is done: there is seven times as much to come.
    assert one.value == pytest.approx(8 * (one.at - began).total_seconds(), rel=0.25)
