"""Workers, executors and tasks that die, stand still, or go on when nobody waits for them any more."""

from __future__ import annotations

import contextlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from jobs.record import RunState
from tests.faults.case import RUN_ID, workers
from tests.faults.drivers import until
from tests.faults.stores import on

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tests.faults.case import Case
    from tests.faults.stopwatch import Stopwatch

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

Drive = Any
"""The fixture `drive`."""
SPLITS = 16
ZOMBIE_SPLITS = 16
"""Of its task."""
HOST = "127.0.0.2"


def pids(case: Case) -> set[int]:
    """Processes that have committed a split."""
    return {json.loads(data)["worker"]["pid"] for data in case.receipts().values()}


def splits_of(case: Case, pid: int) -> int:
    """Splits that a process has committed."""
    return sum(json.loads(data)["worker"]["pid"] == pid for data in case.receipts().values())


def executors_on(host: str) -> list[psutil.Process]:
    """Executors of the cluster by their host."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if "org.apache.spark.executor.CoarseGrainedExecutorBackend" in line and host in line:
                found.append(process)
    return found


def named(case: Case) -> dict[str, bytes]:
    """All files but the hidden ones, of which the zombie may have one to remove."""
    found = case.place.files("out")
    return {name: data for name, data in found.items() if not name.rpartition("/")[2].startswith(".")}


def has_ended(process: psutil.Process) -> bool:
    """Whether it is gone."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.matrix(
    "SIGKILL of all workers in Python while they score", "Spark tries their tasks again; the run goes on"
)
@on("local", "moto", "hdfs")
def test_workers_die(spark: SparkSession, long_case: Case, stopwatch: Stopwatch) -> None:
    """Workers that are killed among their tasks are followed by others, and each key is published once."""
    case = long_case
    with case.watch() as watch, ThreadPoolExecutor(1) as threads:
        running = threads.submit(case.again, case.job())
        until(lambda: len(case.receipt_names()) >= 3 or running.done(), "three splits are scored")
        victims = workers(os.getpid())
        assert victims
        for victim in victims:
            victim.kill()
        assert len(case.receipt_names()) < SPLITS
        stopwatch.start()
        record = running.result(100)
        stopwatch.stop()
        assert (record.state, record.splits_scored_now) == (RunState.SUCCEEDED, SPLITS)
        assert watch.published() == {RUN_ID}
    assert pids(case) - {victim.pid for victim in victims}
    assert case.place.uploads() == []


@pytest.mark.matrix("SIGKILL of an executor of two", "Spark starts another and tries its tasks again; the run goes on")
@on("local", "moto", "hdfs")
def test_an_executor_dies(long_case: Case, drive: Drive, stopwatch: Stopwatch) -> None:
    """An executor that is killed among its tasks takes its workers along; each key is published once."""
    case = long_case
    job = case.job(spark={"master": "local-cluster[2,1,1024]"})
    with case.watch() as watch:
        driver = drive(job)
        until(lambda: len(case.receipt_names()) >= 2 or not driver.is_alive(), "two splits are scored")
        executors = driver.below("java", "CoarseGrainedExecutorBackend", "--executor-id")
        victim = next(one for one in executors if workers(one))
        victim.kill()
        stopwatch.start()
        assert len(case.receipt_names()) < SPLITS
        assert driver.code() == 0, driver.said()
        stopwatch.stop()
        assert watch.published() == {RUN_ID}
    assert len(case.receipts()) == SPLITS
    assert case.place.uploads() == []


@pytest.mark.matrix(
    "A worker stands still; its twin is quicker; it goes on after the publication",
    "the twin's receipts win, the run is published, and the zombie shows nothing",
)
@on("local", "moto", "hdfs")
def test_a_zombie_ends_after_the_publication(long_case: Case, cluster: str, drive: Drive, stopwatch: Stopwatch) -> None:
    """A task that stands still is overtaken by its speculative twin; let go after the publication, it undoes itself."""
    case = long_case
    case.fill(files=2 * ZOMBIE_SPLITS, rows=200)
    conf = {
        "spark.speculation": "true",
        "spark.speculation.interval": "200ms",
        "spark.speculation.minTaskRuntime": "500ms",
        "spark.speculation.quantile": "0.5",
        "spark.speculation.multiplier": "1.2",
        # Else Spark would end the zombie, and nothing would be left to be seen.
        "spark.python.task.killTimeout": "600s",
        "spark.executor.memory": "512m",
    }
    # Two tasks, one on each host.
    job = case.job(spark={"master": cluster, "conf": conf}, splits={"target_bytes": "1MB"})
    with case.watch() as watch:
        driver = drive(job, stops_at="record")
        until(lambda: executors_on(HOST) or not driver.is_alive(), "there is an executor on the host")
        [executor] = executors_on(HOST)
        until(lambda: workers(executor) or not driver.is_alive(), "it has a worker")
        [zombie] = workers(executor)
        until(lambda: case.receipt_names() or not driver.is_alive(), "a split is scored")
        zombie.suspend()
        stopwatch.start()
        driver.stopped()
        stopwatch.stop()
        assert watch.published() == {RUN_ID}
        before = named(case)
        assert zombie.status() == psutil.STATUS_STOPPED
        assert splits_of(case, zombie.pid) < ZOMBIE_SPLITS, "it had ended before it was stopped"
        zombie.resume()
        until(lambda: has_ended(zombie), "the zombie ends")
        assert named(case) == before
        assert watch.published() == {RUN_ID}
        driver.go_on()
        assert driver.code() == 0, driver.said()
    assert case.place.uploads() == []
