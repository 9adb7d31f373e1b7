"""SIGKILL of the driver at each border and among completions, on stores; then the same command again.

`test_driver_death.py` does the borders on a disk, of a job with all that a job can have.
"""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from jobs.record import RunState
from tests.faults.case import RUN_ID
from tests.faults.drivers import until
from tests.faults.stores import STORES, on

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tests.faults.case import Case
    from tests.faults.drivers import Driver
    from tests.faults.stopwatch import Stopwatch
    from tests.stores.proxy import Asked, Fault

pytestmark = pytest.mark.faults

Drive = Any
"""The fixture `drive`."""
PUBLISHED = "the same command publishes"
BEFORE_SCORING = ("claim", "list", "plan", "start_spark")
AFTER_SCORING = ("settle", "publish", "complete", "commit", "mark", "record")
COMMITTED = ("mark", "record")


def recovered(case: Case, stopwatch: Stopwatch, *, scored_now: int | None = None) -> None:
    """The same command, in this process, publishes all, and leaves nothing pending."""
    stopwatch.start()
    record = case.again(case.job())
    stopwatch.stop()
    assert (record.state, record.manifest) == (RunState.SUCCEEDED, 1)
    assert scored_now in {None, record.splits_scored_now}
    assert case.watch().published() == {RUN_ID}
    assert case.place.uploads() == []


@pytest.mark.matrix("SIGKILL of the driver at each border before scoring, one after the other", PUBLISHED)
@on("moto", "versitygw", "hdfs")
def test_death_before_scoring(spark: SparkSession, case: Case, drive: Drive, stopwatch: Stopwatch) -> None:
    """Drivers killed at each border before scoring, each after the one before, leave nothing that stands in the way."""
    with case.watch() as watch:
        for phase in BEFORE_SCORING:
            assert drive(case.job(), dies_at=phase).killed(), phase
            assert watch.shows_nothing()
        recovered(case, stopwatch, scored_now=4)


@pytest.mark.matrix("SIGKILL of the driver while tasks score", f"{PUBLISHED}; what has a receipt is not scored again")
@pytest.mark.matrix("A resume on another number of cores, with other tasks", "what has a receipt is not scored again")
@on("local", "moto", "hdfs")
def test_death_while_tasks_score(spark: SparkSession, long_case: Case, drive: Drive, stopwatch: Stopwatch) -> None:
    """A driver of one core that is killed among its tasks leaves receipts that stay as they are when others go on."""
    case = long_case
    one = case.job("one", spark={"master": "local[1,4]"})
    assert spark.sparkContext.defaultParallelism > 1
    with case.watch() as watch:
        driver = drive(one)
        until(lambda: len(case.receipt_names()) >= 3 or not driver.is_alive(), "three splits are scored")
        driver.kill()
        assert driver.killed(), driver.said()
        before = case.receipts()
        assert 3 <= len(before) < 16
        assert watch.shows_nothing()
        stopwatch.start()
        record = case.again(case.job(splits={"target_bytes": "1MB", "task_bytes": "20KB"}))
        stopwatch.stop()
        assert (record.state, record.manifest) == (RunState.SUCCEEDED, 1)
        assert watch.published() == {RUN_ID}
    after = case.receipts()
    assert len(after) == 16
    assert {name: after[name] for name in before} == before
    assert case.place.uploads() == []


# A file costs half a second on HDFS, so what is scored is not made anew for each border.
@pytest.mark.matrix(
    "SIGKILL of the driver at each border after scoring, one after the other", f"{PUBLISHED}, without scoring again"
)
@on("hdfs")
def test_deaths_after_scoring(spark: SparkSession, case: Case, drive: Drive, stopwatch: Stopwatch) -> None:
    """Drivers killed at each border after scoring, each after the one before, are completed by the same command."""
    with case.watch() as watch:
        case.stop_before("settle", case.job())
        before = case.receipts()
        for phase in AFTER_SCORING:
            assert drive(case.job(), dies_at=phase).killed(), phase
            assert watch.published() == ({RUN_ID} if phase in COMMITTED else set())
        recovered(case, stopwatch, scored_now=0)
        assert case.receipts() == before


@pytest.mark.matrix("SIGKILL of the driver at the border of {phase}", f"{PUBLISHED}, without scoring again")
@pytest.mark.parametrize("phase", AFTER_SCORING)
@on("moto", "versitygw")
def test_death_after_scoring(spark: SparkSession, case: Case, drive: Drive, stopwatch: Stopwatch, phase: str) -> None:
    """A driver killed at a border after scoring is completed by the same command from the receipts that are there."""
    with case.watch() as watch:
        case.stop_before("settle", case.job())
        before = case.receipts()
        assert drive(case.job(), dies_at=phase).killed()
        assert watch.published() == ({RUN_ID} if phase in COMMITTED else set())
        recovered(case, stopwatch, scored_now=0)
        assert case.receipts() == before


@pytest.mark.matrix("SIGKILL of the driver after {done} of 4 completions", f"{PUBLISHED}, without scoring again")
@pytest.mark.parametrize("done", [1, 3])
@on(*STORES)
def test_death_among_completions(
    spark: SparkSession, case: Case, drive: Drive, stopwatch: Stopwatch, done: int
) -> None:
    """A driver killed when some of its files have their names shows none of them as published, and is completed."""
    with case.watch() as watch:
        case.stop_before("settle", case.job())
        assert drive(case.job(), completions=done).killed()
        shown = [name for name in case.place.sizes(f"out/run_id={RUN_ID}") if not name.startswith(".")]
        assert done <= len(shown) <= 4
        assert watch.shows_nothing()
        recovered(case, stopwatch, scored_now=0)


@pytest.mark.matrix("SIGKILL of the driver while the store does what it was asked: {step}", PUBLISHED)
@pytest.mark.parametrize(
    ("step", "request_"),
    [
        pytest.param("completion", r"POST .*\.parquet\?uploadId=", id="completion"),
        pytest.param("commit", r"PUT .*/manifests/.*", id="commit"),
    ],
)
@on("moto", "versitygw")
def test_death_during_a_request(
    spark: SparkSession, case: Case, drive: Drive, faulty: Any, stopwatch: Stopwatch, *, step: str, request_: str
) -> None:
    """A driver that is killed with a request on its way, which the store then does, is completed."""
    [settings] = case.place.settings
    assert settings.endpoint is not None
    victims: list[Driver] = []
    wanted, number = re.compile(request_), {"completion": 2, "commit": 1}[step]

    def judge(asked: Asked) -> Fault | None:
        nonlocal number
        if wanted.match(f"{asked.method} {asked.path}"):
            number -= 1
            if number == 0:
                until(lambda: victims, "the driver is known")
                os.kill(victims[0].pid, signal.SIGKILL)
        return None

    with case.watch(), faulty(settings.endpoint, judge) as url:
        case.stop_before("settle", case.job())
        behind = case.job("behind", storage=[{"uri": settings.uri, "endpoint": url}])
        victims.append(drive(behind))
        assert victims[0].killed(), victims[0].said()
        recovered(case, stopwatch, scored_now=0)
