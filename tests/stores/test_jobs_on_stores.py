"""A job whose input, output and metrics lie in a store: keys and scores are those of a read of the input."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from jobs.config.job import read_config
from jobs.errors import Refused
from jobs.record import RunState
from jobs.results import open_results
from jobs.run import RunRequest, run
from tests.numbers_job import logistic_scores, write_numbers
from tests.stores.places import PLACES, Place, scores_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pyarrow as pa
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stores


@pytest.fixture
def table(place: Place, tmp_path: Path) -> pa.Table:
    """Rows in three files of the place."""
    rows = write_numbers(tmp_path / "made", files=3, rows=400, row_group=150)
    for path in (tmp_path / "made").iterdir():
        place.put(f"in/{path.name}", path.read_bytes())
    return rows


@pytest.fixture
def write_job(place: Place, job_file: Callable[..., Path]) -> Callable[[], Path]:
    """Write a job over the place."""

    def write() -> Path:
        return job_file(
            input={"files": f"{place.uri}/in/*.parquet"},
            output={"uri": f"{place.uri}/out", "passthrough": ["id"]},
            metrics={"uri": f"{place.uri}/metrics"},
            splits={"target_bytes": "1MB", "task_bytes": 1},
            storage=[one.model_dump(exclude_defaults=True) | {"uri": one.uri} for one in place.settings],
        )

    return write


def start(job: Path, run_id: str = "r", **facts: Any) -> Any:
    """Run in this process."""
    return run(RunRequest(config=read_config(str(job)), run_id=run_id, **facts))


def test_a_job_reads_scores_and_publishes(
    spark: SparkSession, place: Place, table: pa.Table, write_job: Callable[[], Path]
) -> None:
    """Each key is published once with its score, no upload is left, and the same id again changes nothing."""
    job, wanted = write_job(), pytest.approx(logistic_scores(table), abs=1e-6)
    record = start(job)
    assert (record.state, record.manifest) == (RunState.SUCCEEDED, 1)
    files = place.files("out")
    assert scores_of(files) == wanted
    assert "run_id=r/_SUCCESS" in files
    assert place.uploads() == []
    again = start(job)
    assert (again.state, again.manifest) == (RunState.SUCCEEDED, 1)
    assert place.files("out") == files
    assert place.files("metrics")
    results = open_results(str(job))
    rows = results.arrow()
    assert dict(zip(rows["id"].to_pylist(), rows["p"].to_pylist(), strict=True)) == wanted
    assert results.dataset().count_rows() == table.num_rows
    second = start(job, "s")
    assert second.manifest == 2
    assert open_results(str(job)).arrow().num_rows == 2 * table.num_rows


def test_a_run_that_died_goes_on(
    spark: SparkSession, place: Place, table: pa.Table, write_job: Callable[[], Path]
) -> None:
    """Stopped at the border of any phase a run shows no row; the same id then publishes each key once."""
    job = write_job()

    class Stopped(BaseException):
        """The process is gone."""

    for phase in ("score", "settle", "complete", "commit"):

        def stop(found: str, phase: str = phase) -> None:
            if found == phase:
                raise Stopped

        with pytest.raises(Stopped):
            run(RunRequest(config=read_config(str(job)), run_id="r"), stop)
        with pytest.raises(Refused, match="nothing is published"):
            open_results(str(job))
    record = start(job)
    assert (record.state, record.manifest, record.resumed) == (RunState.SUCCEEDED, 1, True)
    assert scores_of(place.files("out")) == pytest.approx(logistic_scores(table), abs=1e-6)
    assert place.uploads() == []


def test_other_input_under_the_same_id_is_refused(
    spark: SparkSession, place: Place, table: pa.Table, write_job: Callable[[], Path], tmp_path: Path
) -> None:
    """A published id over other files is refused with their names; what is published stays as it is."""
    job = write_job()
    start(job)
    before = place.files("out")
    write_numbers(tmp_path / "late", files=1, rows=50, row_group=50, seed=9)
    place.put("in/part-9.parquet", (tmp_path / "late" / "part-0.parquet").read_bytes())
    with pytest.raises(Refused, match=r"in/part-9\.parquet"):
        start(job)
    assert place.files("out") == before


@pytest.mark.parametrize("store", list(PLACES))
def test_a_query_is_frozen_in_the_store(
    spark: SparkSession, request: pytest.FixtureRequest, tmp_path: Path, job_file: Callable[..., Path], store: str
) -> None:
    """The rows of a query are frozen beside the output, read there by the workers, and scored, each once."""
    place = PLACES[store](request)
    table = write_numbers(tmp_path / "made", files=2, rows=300, row_group=100)
    spark.read.parquet(str(tmp_path / "made")).createOrReplaceTempView("numbers_to_freeze")
    output = {"uri": f"{place.uri}/out", "passthrough": ["id"]}
    job = job_file(input={"sql": "select * from numbers_to_freeze"}, output=output)
    assert start(job).state is RunState.SUCCEEDED
    assert any(name.endswith(".parquet") for name in place.files("out.scratch"))
    assert scores_of(place.files("out")) == pytest.approx(logistic_scores(table), abs=1e-6)


@pytest.mark.parametrize("section", ["output", "metrics"])
def test_a_place_that_cannot_be_written_is_refused_before_work(
    bucket: str, tmp_path: Path, job_file: Callable[..., Path], section: str
) -> None:
    """A bucket that is not there is refused with its name before a row is read, for predictions and for metrics."""
    write_numbers(tmp_path / "in", files=1, rows=10, row_group=10)
    sections: dict[str, Any] = {"output": {"uri": str(tmp_path / "out"), "passthrough": ["id"]}, "metrics": {}}
    job = job_file(**{section: {**sections[section], "uri": "s3://no-such-bucket/there"}})
    told = pytest.warns(UserWarning, match="was not collected") if section == "metrics" else contextlib.nullcontext()
    with told, pytest.raises(Refused, match=r"s3://no-such-bucket/there.*NoSuchBucket"):
        start(job)
