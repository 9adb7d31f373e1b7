"""What is known of runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from jobs.errors import Refused
from jobs.history import RunLine, config_of, find_run, history, look_at, quarantined_rows
from jobs.plan import claim_run, target_of
from jobs.record import RunState, collect_record
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
    collect_record(metrics, record.model_copy(update={"run_id": "elsewhere"}))
    collect_record(metrics, record.model_copy(update={"run_id": "others", "job": "other"}))
    assert {line.run_id for line in history(str(job))} == {"a-held", "b-partial", "c-lost", "elsewhere"}
    assert [line.run_id for line in history(str(job), job="other")] == ["others"]
    assert {line.run_id for line in history(metrics)} == {"b-partial", "elsewhere", "others"}


def test_collecting_again_replaces(job: Path, tmp_path: Path) -> None:
    """The record of a run is collected once, in its last state."""
    record = look_at(find_run(str(job), "a-held")).record
    assert record is not None
    collect_record(str(tmp_path / "all"), record)
    collect_record(str(tmp_path / "all"), record.model_copy(update={"state": RunState.DISCARDED}))
    for name in ("README.txt", "readme"):
        (tmp_path / "all" / name).write_text("not a job")
    assert [(line.run_id, line.state) for line in history(str(tmp_path / "all"))] == [("a-held", "DISCARDED")]


def test_a_record_that_cannot_be_collected_is_a_warning(job: Path, tmp_path: Path) -> None:
    """A place for metrics that refuses a record does not fail a run that has ended."""
    record = look_at(find_run(str(job), "a-held")).record
    assert record is not None
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="record of run a-held was not collected"):
        collect_record(str(tmp_path / "file"), record)


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
    line = RunLine("r", "j", "SUCCEEDED", datetime(2026, 11, 1, tzinfo=UTC), seconds=3.0, rows=1_500_000)
    assert line.seconds_per_million == 2.0
    assert line._replace(rows=9_999).seconds_per_million is None
    assert line._replace(seconds=None).seconds_per_million is None
