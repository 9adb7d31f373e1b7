"""SIGKILL of who replaces what was published, goes back, or removes what nobody needs; then the same command again."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from jobs.errors import ExitCode
from jobs.record import RunState
from tests.faults.stores import on
from tests.stores.days import put_days, version_scores
from tests.stores.places import scores_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pyspark.sql import SparkSession

    from tests.faults.case import Case
    from tests.faults.stopwatch import Stopwatch

pytestmark = pytest.mark.faults

Drive = Any
"""The fixture `drive`."""
Days = dict[int, dict[int, float]]
"""Scores of the oracle by day and id."""
BEFORE_COMMIT = ("settle", "publish", "complete", "commit")
COMMITTED = ("mark", "record")
AGAIN = "the same command does the rest; each row of the newest version is there once"


def flat(days: Days) -> Any:
    """Scores by id, to compare with what was read."""
    return pytest.approx({key: score for day in days.values() for key, score in day.items()}, abs=1e-6)


def days_job(case: Case, name: str, mode: str, *days: int, **output: Any) -> Path:
    """A job over these days."""
    files = [f"{case.place.uri}/in/day-{day}.parquet" for day in days]
    told = {"uri": f"{case.place.uri}/out", "passthrough": ["id", "day"], "mode": mode, **output}
    return case.job(name, input={"files": files}, output=told)


@pytest.mark.matrix("SIGKILL at each border after scoring of a run whose mode is `{mode}`", AGAIN)
@pytest.mark.parametrize(
    ("place", "mode"),
    [
        ("local", "overwrite"),
        ("moto", "overwrite"),
        ("local", "overwrite_partitions"),
        ("moto", "overwrite_partitions"),
        ("hdfs", "overwrite_partitions"),
    ],
    indirect=["place"],
)
def test_death_of_a_run_that_replaces(
    spark: SparkSession, bare_case: Case, drive: Drive, stopwatch: Stopwatch, *, mode: str
) -> None:
    """Until its commit a run that replaces others has replaced nothing; from then on all is as it asked."""
    case, place, made = bare_case, bare_case.place, bare_case.folder
    partitioned = {"partition_by": ["day"]} if mode == "overwrite_partitions" else {}
    before = put_days(place, made, [1, 2], seed=1)
    case.again(days_job(case, "first", mode, 1, 2, **partitioned), "first")
    second = put_days(place, made, [2], seed=50)
    after = {**before, **second} if partitioned else second
    job = days_job(case, "second", mode, 2, **partitioned)
    case.stop_before("settle", job, "second")
    for phase in (*BEFORE_COMMIT, *COMMITTED):
        driver = drive(job, "second", dies_at=phase)
        assert driver.killed(), driver.said()
        assert version_scores(place) == flat(before if phase in BEFORE_COMMIT else after), phase
    stopwatch.start()
    record = case.again(job, "second")
    stopwatch.stop()
    assert (record.state, record.manifest, record.splits_scored_now) == (RunState.SUCCEEDED, 2, 0)
    assert version_scores(place) == flat(after)
    assert version_scores(place, 1) == flat(before)
    assert place.uploads() == []


def killed_after_each_change(drive: Drive, job: Path, *arguments: str, check: Callable[[], None]) -> int:
    """Give a command again and again, each time killed one change of the store later, until it ends; its deaths."""
    for changes in itertools.count(1):
        driver = drive(job, f"change-{changes}", changes=changes, arguments=arguments)
        code = driver.code()
        check()
        if code == ExitCode.PUBLISHED:
            return changes - 1
        assert driver.killed(), driver.said()
    raise AssertionError


@pytest.mark.matrix("SIGKILL of `rollback` after each of its changes, one after the other", AGAIN)
@on("local", "moto")
def test_death_of_a_rollback(spark: SparkSession, bare_case: Case, drive: Drive, stopwatch: Stopwatch) -> None:
    """Whatever a rollback that is killed has done, the newest version is the one before it or the one to go back to."""
    case, place, made = bare_case, bare_case.place, bare_case.folder
    found, job = {}, days_job(case, "job", "overwrite", 1, symlink_manifest=True)
    for number, name in enumerate(("first", "second")):
        found[name] = flat(put_days(place, made, [1], seed=40 * number))
        assert case.again(job, name).state is RunState.SUCCEEDED
    shown: list[str] = []

    def check() -> None:
        scores = version_scores(place)
        shown.append(next(name for name, wanted in found.items() if scores == wanted))

    arguments = ("rollback", str(job), "--to", "1", "--reason", "it was wrong")
    stopwatch.start()
    deaths = killed_after_each_change(drive, job, *arguments, check=check)
    stopwatch.stop()
    assert deaths >= 2
    assert set(shown) == {"first"}
    manifests = [name for name in place.sizes("out/_batchscore/manifests") if name.endswith(".json")]
    assert len(manifests) == 3
    listed = place.get("out/_symlink_format_manifest/manifest").decode().split()
    assert {path.split("/run_id=")[1].split("/")[0] for path in listed} == {"first"}


def unfinished(case: Case, drive: Drive, name: str, **lot: Any) -> Path:
    """Leave a run that was scored, and not published."""
    job = days_job(case, name, "overwrite", 1)
    case.stop_before("settle", job, name)
    if lot:
        assert drive(job, name, **lot).killed()
    return job


@pytest.mark.matrix(
    "SIGKILL of `gc` after each of its changes, one after the other",
    f"{AGAIN}; what it takes for dead is scored again, or refused",
)
@on("local", "moto", "hdfs")
def test_death_of_gc(spark: SparkSession, bare_case: Case, drive: Drive, stopwatch: Stopwatch) -> None:
    """A `gc` that is killed at any change leaves the newest version whole, and the next one goes on with the rest."""
    case, place, made = bare_case, bare_case.place, bare_case.folder
    put_days(place, made, [1], seed=0)
    assert case.again(days_job(case, "first", "overwrite", 1), "first").state is RunState.SUCCEEDED
    wanted = flat(put_days(place, made, [1], seed=40))
    assert case.again(days_job(case, "second", "overwrite", 1), "second").state is RunState.SUCCEEDED
    pending = unfinished(case, drive, "pending")
    shows = unfinished(case, drive, "shows", completions=1)
    assert _folders(place.sizes("out")) == {"first", "second", "shows"}

    def check() -> None:
        assert version_scores(place) == wanted

    arguments = ("gc", str(pending), "--keep", "1", "--min-age", "0")
    stopwatch.start()
    deaths = killed_after_each_change(drive, pending, *arguments, check=check)
    stopwatch.stop()
    assert deaths >= 5
    assert _folders(place.sizes("out")) == {"second"}
    assert place.uploads() == []
    assert scores_of(place.files("out/_runs/run_id=second")) == wanted
    assert drive(shows, "shows").code() == ExitCode.REFUSED
    record = case.again(pending, "pending")
    assert (record.state, record.void_receipts) == (RunState.SUCCEEDED, 1)
    assert version_scores(place) == wanted


def _folders(listing: Mapping[str, int]) -> set[str]:
    """Runs of which a listing shows files of predictions."""
    return {
        name.removeprefix("_runs/run_id=").split("/")[0]
        for name in listing
        if name.startswith("_runs/") and name.endswith(".parquet") and "/." not in name
    }
