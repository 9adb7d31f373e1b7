"""Several drivers that publish at once, each a process of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from jobs.errors import ExitCode
from tests.faults.case import RUN_ID
from tests.faults.stores import STORES, on
from tests.stores.places import scores_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tests.faults.case import Case
    from tests.faults.drivers import Driver
    from tests.faults.stopwatch import Stopwatch

pytestmark = pytest.mark.faults

Drive = Any
"""The fixture `drive`."""
RACERS = 16
MANIFEST = re.compile(r"_batchscore/manifests/\d+\.json")


def released(drivers: list[Driver], stopwatch: Stopwatch) -> list[int]:
    """Wait until all have come to their border, and let all go at once; their exit codes."""
    for driver in drivers:
        driver.stopped()
    stopwatch.start()
    for driver in drivers:
        driver.go_on()
    codes = [driver.code() for driver in drivers]
    stopwatch.stop()
    return codes


def versions(case: Case) -> int:
    """How many there are."""
    return sum(MANIFEST.fullmatch(name) is not None for name in case.place.sizes("out"))


@pytest.mark.matrix("Two drivers publish one run id at once, from {phase} on", "both exit 0, and there is one version")
@pytest.mark.parametrize("phase", ["complete", "commit"])
@on(*STORES)
def test_two_publishers_of_one_run(
    spark: SparkSession, case: Case, drive: Drive, stopwatch: Stopwatch, phase: str
) -> None:
    """Two drivers that publish the same receipts at once make one version, and both say so."""
    with case.watch() as watch:
        case.stop_before("settle", case.job())
        drivers = [drive(case.job(), stops_at=phase) for _ in range(2)]
        assert released(drivers, stopwatch) == [0, 0], [driver.said() for driver in drivers]
        assert watch.published() == {RUN_ID}
    assert versions(case) == 1
    assert case.place.uploads() == []


@pytest.mark.matrix("Two drivers run one run id at once, from the start", "both exit 0, and there is one version")
@on("local", "moto", "hdfs")
def test_two_drivers_of_one_run(case: Case, drive: Drive, stopwatch: Stopwatch) -> None:
    """Two drivers that are given the same command at once score each split for one receipt, and make one version."""
    job = case.job(spark={"master": "local[1,4]"})
    with case.watch() as watch:
        drivers = [drive(job, stops_at="claim") for _ in range(2)]
        assert released(drivers, stopwatch) == [0, 0], [driver.said() for driver in drivers]
        assert watch.published() == {RUN_ID}
    assert versions(case) == 1
    assert case.place.uploads() == []


@pytest.mark.matrix("Two runs commit at once", "both are published, one version after the other")
@on(*STORES)
def test_two_runs_commit_at_once(spark: SparkSession, case: Case, drive: Drive, stopwatch: Stopwatch) -> None:
    """Of two runs that commit at once, one finds the version of the other and stands beside it in the next."""
    with case.watch("r", "s") as watch:
        for run_id in ("r", "s"):
            case.stop_before("settle", case.job(), run_id)
        drivers = [drive(case.job(), run_id, stops_at="commit") for run_id in ("r", "s")]
        assert released(drivers, stopwatch) == [0, 0], [driver.said() for driver in drivers]
        assert watch.published() == {"r", "s"}
    assert versions(case) == 2


@pytest.mark.matrix(
    "Sixteen runs commit at once where the mode is `error`",
    "one is published; fifteen exit 4, and a listing of the root shows none of their rows",
)
@on(*STORES)
def test_sixteen_racing_publishers(spark: SparkSession, small_case: Case, drive: Drive, stopwatch: Stopwatch) -> None:
    """Of sixteen runs that commit at once where only one may, one is published; fifteen say that they were late."""
    case = small_case
    job = case.job(output={"uri": f"{case.place.uri}/out", "passthrough": ["id"], "mode": "error"})
    runs = [f"run-{number}" for number in range(RACERS)]
    with case.watch(*runs) as watch:
        for run_id in runs:
            case.stop_before("settle", job, run_id)
        codes = released([drive(job, run_id, stops_at="commit") for run_id in runs], stopwatch)
        assert sorted(codes) == [0] + [ExitCode.NOT_PUBLISHED] * (RACERS - 1)
        winner = runs[codes.index(0)]
        assert watch.published() == {winner}
    assert versions(case) == 1
    assert scores_of(case.place.files("out")) == pytest.approx(case.scores, abs=1e-6)
