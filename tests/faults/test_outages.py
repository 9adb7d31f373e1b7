"""Servers that are gone for a while."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from jobs.errors import ExitCode
from jobs.record import RunState
from tests.faults.case import RUN_ID
from tests.faults.drivers import until
from tests.faults.stores import on
from tests.stores.servers import linked

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from tests.faults.case import Case
    from tests.faults.stopwatch import Stopwatch
    from tests.stores.servers import Hdfs, Link

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

Drive = Any
"""The fixture `drive`."""
LONG = 10.0
"""Seconds: S3 is given up before, which is asked twice; the client of HDFS asks for minutes."""
CLEANLY = "waits, or exits 1 and shows nothing; the same command publishes"


def server_of(case: Case) -> str:
    """Host and port of the place's server, or of its name node."""
    for settings in case.place.settings:
        assert settings.endpoint is not None
        return settings.endpoint.partition("://")[2]
    return case.place.uri.partition("://")[2].partition("/")[0]


def behind(case: Case, link: Link, **settings: object) -> Path:
    """The job, by way of a link to its store."""
    if not case.place.settings:
        return case.job(uri=case.place.uri.replace(server_of(case), link.address))
    [plain] = case.place.settings
    return case.job(storage=[{"uri": plain.uri, "endpoint": f"http://{link.address}", **settings}])


@pytest.mark.matrix("The store is away for a minute while tasks score", CLEANLY)
@on("moto", "hdfs")
def test_a_minute_without_the_store(
    spark: SparkSession, long_case: Case, stopwatch: Stopwatch, toxiproxy_url: str
) -> None:
    """A store that nobody reaches for a minute from the third receipt on costs time and nothing else, with the settings
    that stores have by default.
    """  # noqa: D205  one sentence
    case = long_case

    def outage(link: Link) -> None:
        until(lambda: len(case.receipt_names()) >= 3, "three splits are scored")
        link.down()
        stopwatch.start()
        time.sleep(60)
        link.up()

    with linked(toxiproxy_url, server_of(case)) as link, case.watch() as watch:
        job = behind(case, link)
        away = threading.Thread(target=outage, args=(link,), daemon=True)
        away.start()
        try:
            record = case.again(job)
        except Exception:  # noqa: BLE001  whatever it is, the same command must do
            assert watch.shows_nothing()
            away.join()
            record = case.again(job)
        stopwatch.stop()
        away.join()
        assert (record.state, record.manifest) == (RunState.SUCCEEDED, 1)
        assert watch.published() == {RUN_ID}
    assert case.place.uploads() == []


@pytest.mark.matrix("The store is away from the border of {phase} on", CLEANLY)
@pytest.mark.parametrize("phase", ["complete", "commit"])
@on("moto", "versitygw", "hdfs")
def test_away_when_it_is_published(
    spark: SparkSession, case: Case, drive: Drive, stopwatch: Stopwatch, *, toxiproxy_url: str, phase: str
) -> None:
    """A driver that finds no store when it publishes waits, or says so and ends: the same command publishes."""
    with linked(toxiproxy_url, server_of(case)) as link, case.watch() as watch:
        job = behind(case, link, attempts=2)
        case.stop_before("settle", job)
        driver = drive(job, stops_at=phase)
        driver.stopped()
        link.down()
        driver.go_on()
        waited = time.monotonic() + LONG
        while driver.is_alive() and time.monotonic() < waited:
            time.sleep(0.05)
        has_given_up = not driver.is_alive()
        assert watch.shows_nothing()
        link.up()
        stopwatch.start()
        if has_given_up:
            assert driver.code() in {ExitCode.FAILED, ExitCode.UNKNOWN}, driver.said()
            record = case.again(job)
            assert (record.manifest, record.splits_scored_now) == (1, 0)
        else:
            assert driver.code() == 0, driver.said()
        stopwatch.stop()
        assert watch.published() == {RUN_ID}
    assert case.place.uploads() == []


@pytest.mark.matrix("HDFS without its data node while tasks score", CLEANLY)
@on("hdfs")
def test_no_data_node(spark: SparkSession, long_case: Case, hdfs: Hdfs, stopwatch: Stopwatch) -> None:
    """A data node that is stopped among the tasks and started again costs time and nothing else."""
    case, job = long_case, long_case.job()

    def outage() -> None:
        until(lambda: len(case.receipt_names()) >= 3, "three splits are scored")
        with hdfs.without_data_node():
            stopwatch.start()
            time.sleep(5)

    with case.watch() as watch:
        away = threading.Thread(target=outage, daemon=True)
        away.start()
        try:
            record = case.again(job)
        except Exception:  # noqa: BLE001  whatever it is, the same command must do
            away.join()
            assert watch.shows_nothing()
            record = case.again(job)
        stopwatch.stop()
        away.join()
        assert (record.state, record.manifest) == (RunState.SUCCEEDED, 1)
        assert watch.published() == {RUN_ID}
