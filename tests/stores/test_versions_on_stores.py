"""Versions, increments and void receipts of jobs in each store, as clients that are not ours see the files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from etl.runs.storage import storage_for
from jobs.cli import app
from jobs.config.job import read_config
from jobs.record import RunRecord, RunState
from jobs.run import RunRequest, run
from jobs.settling.garbage import Keeping, Root, collect
from tests.stores.days import put_days, version_scores
from tests.stores.places import Place, scores_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stores


@pytest.fixture
def write_job(place: Place, job_file: Callable[..., Path]) -> Callable[..., Path]:
    """Write a job over the place."""

    def write(output: dict[str, Any], **more: Any) -> Path:
        return job_file(
            **{"input": {"files": f"{place.uri}/in/*.parquet"}, **more},
            output={"uri": f"{place.uri}/out", "passthrough": ["id", "day"], **output},
            splits={"target_bytes": "6KB", "task_bytes": "1MB"},
            storage=[one.model_dump(exclude_defaults=True) | {"uri": one.uri} for one in place.settings],
        )

    return write


def start(job: Path, run_id: str, on_phase: Callable[[str], None] = lambda _: None) -> RunRecord:
    """Run in this process."""
    return run(RunRequest(config=read_config(str(job)), run_id=run_id), on_phase)


@pytest.mark.matrix(
    "Days are replaced, rolled back and collected by `gc`", "each version that is kept has just its own rows"
)
def test_the_life_of_an_output(
    spark: SparkSession, place: Place, tmp_path: Path, write_job: Callable[..., Path]
) -> None:
    """Days are replaced, rolled back and collected: each version has just the rows of the input that it was made of."""
    del spark
    job = write_job({"mode": "overwrite_partitions", "partition_by": ["day"], "file_bytes": "2KB"})
    first = put_days(place, tmp_path, [1, 2, 3], seed=1)
    assert start(job, "first").state is RunState.SUCCEEDED
    all_of_first = {key: score for scores in first.values() for key, score in scores.items()}
    assert version_scores(place) == pytest.approx(all_of_first, abs=1e-6)
    second = put_days(place, tmp_path, [2], seed=50)
    where = f"{place.uri}/in/day-2.parquet"
    only = write_job({"mode": "overwrite_partitions", "partition_by": ["day"]}, input={"files": where})
    assert start(only, "second").state is RunState.SUCCEEDED
    mixed = {**first[1], **first[3], **second[2]}
    assert version_scores(place) == pytest.approx(mixed, abs=1e-6)
    assert version_scores(place, 1) == pytest.approx(all_of_first, abs=1e-6)
    assert scores_of(place.files("out")) == {}
    assert CliRunner().invoke(app, ["rollback", str(job), "--to", "1", "--reason", "x"]).exit_code == 0
    assert version_scores(place) == pytest.approx(all_of_first, abs=1e-6)
    done = CliRunner().invoke(app, ["gc", str(job), "--keep", "1"])
    assert done.exit_code == 0, done.output
    assert version_scores(place) == pytest.approx(all_of_first, abs=1e-6)
    left = {name.split("/")[1] for name in place.files("out") if name.endswith(".parquet")}
    assert left == {"run_id=first"}


@pytest.mark.matrix(
    "Pending files of a run that died are removed, by `gc`, a rule of the bucket or a person",
    "the same command scores their splits again",
)
def test_uploads_that_a_rule_aborted_are_scored_again(
    spark: SparkSession, place: Place, tmp_path: Path, write_job: Callable[..., Path]
) -> None:
    """A run that died before publication, and whose pending files were then removed by `gc` or a rule of the bucket, is
    completed by the same command: all of its splits are scored again, and each row is there once.
    """  # noqa: D205  one sentence
    del spark

    class Stop(BaseException):
        """Leaves the run."""

    def stop(phase: str) -> None:
        if phase == "publish":
            raise Stop

    scores = put_days(place, tmp_path, [1, 2], seed=3)
    job = write_job({})
    with pytest.raises(Stop):
        start(job, "r", stop)
    pending = len(place.uploads())
    assert pending >= len(scores)
    read_config(str(job))
    storage, root = storage_for(f"{place.uri}/out")
    keeping = Keeping(versions=None, min_age=timedelta(days=7), scratch=f"{root}.scratch")
    assert list(collect(Root(storage, root), keeping, datetime.now(UTC))) == []
    later = datetime.now(UTC) + timedelta(days=8)
    [found] = collect(Root(storage, root), keeping, later)
    assert (found.kind, found.files) == ("unfinished", pending)
    assert place.uploads() == []
    record = start(job, "r")
    assert (record.state, record.void_receipts) == (RunState.SUCCEEDED, record.splits_scored_now)
    assert record.void_receipts > 0
    wanted = {key: score for one in scores.values() for key, score in one.items()}
    assert scores_of(place.files("out")) == pytest.approx(wanted, abs=1e-6)
    assert place.uploads() == []


@pytest.mark.matrix("Input files come, and change, between incremental runs", "what came is scored, once")
def test_files_are_new_by_their_etag(
    spark: SparkSession, place: Place, tmp_path: Path, write_job: Callable[..., Path]
) -> None:
    """In each store only files that came, or changed, since are scored."""
    del spark
    scores = put_days(place, tmp_path, [1, 2], seed=3)
    job = write_job({}, input={"files": f"{place.uri}/in/*.parquet", "incremental": True, "on_changed": "ignore"})
    start(job, "one")
    scores |= put_days(place, tmp_path, [3], seed=3)
    put_days(place, tmp_path, [1], seed=70)
    found = start(job, "two").increment
    assert found is not None
    assert (found.listed, found.scored_before, [path[-9:] for path in found.changed]) == (3, 1, ["1.parquet"])
    wanted = {key: score for one in scores.values() for key, score in one.items()}
    assert scores_of(place.files("out")) == pytest.approx(wanted, abs=1e-6)
