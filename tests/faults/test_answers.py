"""Stores whose answers are lost, that say they are busy, hang up or are slow, at each step of the protocol."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from jobs.record import RunState
from tests.faults.case import RUN_ID
from tests.faults.stores import on
from tests.stores.rpc_proxy import CallFault, rpc_proxied
from tests.stores.servers import linked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

    from jobs.record import RunRecord
    from tests.faults.case import Case
    from tests.faults.stopwatch import Stopwatch
    from tests.stores.proxy import Asked, Fault

pytestmark = pytest.mark.faults

Faulty = Any
"""The fixture `faulty`."""
STEPS = {
    "claim": r"PUT .*/claim\.json",
    "plan": r"PUT .*/plan\.json",
    "model": r"PUT .*/models/.*",
    "begin": r"POST .*\.parquet\?uploads",
    "part": r"PUT .*\.parquet\?.*partNumber=",
    "receipt": r"PUT .*/receipts/.*",
    "completion": r"POST .*\.parquet\?uploadId=",
    "table": r"PUT .*/files\.arrow",
    "commit": r"PUT .*/manifests/.*",
    "mark": r"PUT .*/_SUCCESS",
    "record": r"PUT .*/record\.json",
}
"""Requests to S3 by what they are for."""
DECISIVE = {step: STEPS[step] for step in ("receipt", "completion", "commit")}
CALLS = {
    "claim": r"rename2? .*/claim\.json",
    "plan": r"rename2? .*/plan\.json",
    "begin": r"create .*\.parquet\.inprogress",
    "part": r"complete .*\.parquet\.inprogress",
    "receipt": r"rename2? .*/receipts/.*\.json",
    "completion": r"rename2? .*/part-[^/]*\.parquet",
    "commit": r"rename2? .*/manifests/.*\.json",
    "mark": r"rename2? .*/_SUCCESS",
    "record": r"rename2? .*/record\.json",
}
"""Calls of HDFS by what they are for."""
WORDS = {
    "lost": "applied, but its answer is lost",
    "busy": "503 SlowDown",
    "error": "500",
    "reset": "connection closed",
}
GOES_ON = "the run waits, and publishes"


def params(steps: dict[str, str], *faults: str) -> list[object]:
    """Each fault at each step."""
    return [pytest.param(step, fault, WORDS[fault], id=f"{step}-{fault}") for step in steps for fault in faults]


class Once:
    """Gives the first request of each kind and name a fault, and no more of them than are allowed."""

    def __init__(self, pattern: str, fault: Fault, most: int = 100) -> None:
        self.met: list[str] = []
        self._wanted, self._fault, self._most = re.compile(pattern), fault, most

    def __call__(self, asked: Asked) -> Fault | None:
        """What becomes of a request."""
        if len(self.met) >= self._most or asked.number or not self._wanted.match(f"{asked.method} {asked.path}"):
            return None
        self.met.append(asked.path)
        return self._fault


def through(case: Case, url: str, **settings: object) -> Path:
    """The job, by way of a proxy before its store."""
    [plain] = case.place.settings
    told = {"uri": plain.uri, "endpoint": url, "attempts": 4, **settings}
    return case.job(storage=[told])


def check_published(case: Case, record: RunRecord) -> None:
    """Once, with nothing left."""
    assert (record.state, record.manifest) == (RunState.SUCCEEDED, 1)
    assert case.watch().published() == {RUN_ID}
    found = [name for name in case.place.sizes("out") if "/manifests/" in name]
    assert found == ["_batchscore/manifests/000000000001.json"]
    assert case.place.uploads() == []


@pytest.mark.matrix("S3, a request fails at its first try: {step}, {words}", GOES_ON)
@pytest.mark.parametrize(
    ("step", "fault", "words"), [*params(STEPS, "lost", "busy", "reset"), *params(DECISIVE, "error")]
)
@on("moto")
def test_a_request_that_fails_once_changes_nothing(
    spark: SparkSession, case: Case, faulty: Faulty, stopwatch: Stopwatch, *, step: str, fault: Fault, words: str
) -> None:
    """Whichever request of a run fails at its first try, applied or not, each key is published once, in one version."""
    _check_request(case, faulty, stopwatch, once=Once(STEPS[step], fault))


@pytest.mark.matrix("S3, a request fails at its first try: {step}, {words}", GOES_ON)
@pytest.mark.parametrize(
    ("step", "fault", "words"),
    params(DECISIVE, "lost", "reset"),
)
@on("versitygw")
def test_a_request_to_a_disk_fails_once(
    spark: SparkSession, case: Case, faulty: Faulty, stopwatch: Stopwatch, *, step: str, fault: Fault, words: str
) -> None:
    """What a server on a disk did, and did not say, is found, and is done once."""
    _check_request(case, faulty, stopwatch, once=Once(STEPS[step], fault))


def _check_request(case: Case, faulty: Faulty, stopwatch: Stopwatch, *, once: Once) -> None:
    [settings] = case.place.settings
    assert settings.endpoint is not None
    with case.watch(), faulty(settings.endpoint, once) as url:
        stopwatch.start()
        record = case.again(through(case, url))
        stopwatch.stop()
    assert once.met, "there was no such request"
    check_published(case, record)


@pytest.mark.matrix("HDFS, a call fails at its first try: {step}, {words}", f"{GOES_ON}, or the same command does")
@pytest.mark.parametrize(("step", "fault", "words"), params(CALLS, "lost", "reset"))
@on("hdfs")
def test_a_call_that_fails_once_changes_nothing(
    spark: SparkSession, case: Case, stopwatch: Stopwatch, *, step: str, fault: CallFault, words: str
) -> None:
    """Whichever call of a run to the name node fails once, applied or not, each key is published once, at the latest by
    the same command.
    """  # noqa: D205  one sentence
    # Nobody asks a second time by the same name where it is an attempt's own.
    once = Once(CALLS[step], fault, most=2)
    name_node = case.place.uri.partition("://")[2].partition("/")[0]
    with case.watch(), rpc_proxied(name_node, once) as address:  # type: ignore[arg-type]
        job = case.job(uri=case.place.uri.replace(name_node, address))
        stopwatch.start()
        record = _with_one_more_try(lambda: case.again(job))
        stopwatch.stop()
    assert once.met, "there was no such call"
    check_published(case, record)


def _with_one_more_try(command: Callable[[], RunRecord]) -> RunRecord:
    """What a scheduler does."""
    try:
        return command()
    except Exception:  # noqa: BLE001  whatever it is, the same command must do
        return command()


@pytest.mark.matrix("S3, {words} for two seconds, whatever is asked", GOES_ON)
@pytest.mark.parametrize(
    ("fault", "words"), [("busy", WORDS["busy"]), ("error", WORDS["error"])], ids=["busy", "error"]
)
@on("moto")
def test_a_burst(
    spark: SparkSession, case: Case, faulty: Faulty, stopwatch: Stopwatch, *, fault: Fault, words: str
) -> None:
    """A store that refuses all for two seconds from the first receipt on is asked again until it answers."""
    [settings] = case.place.settings
    assert settings.endpoint is not None
    begun, refused = threading.Event(), list[str]()
    end = 0.0

    def judge(asked: Asked) -> Fault | None:
        nonlocal end
        if "/receipts/" in asked.path and asked.method == "PUT" and not begun.is_set():
            begun.set()
            stopwatch.start()
            end = time.monotonic() + 2
        if not begun.is_set() or time.monotonic() > end:
            return None
        refused.append(asked.path)
        return fault

    with case.watch(), faulty(settings.endpoint, judge) as url:
        record = case.again(through(case, url, attempts=8))
        stopwatch.stop()
    assert refused
    check_published(case, record)


TOXICS: dict[str, tuple[str, dict[str, int], float]] = {
    "200 ms of latency": ("latency", {"latency": 200, "jitter": 50}, 1.0),
    "20 KB a second": ("bandwidth", {"rate": 20}, 1.0),
    "a third of the connections reset": ("reset_peer", {"timeout": 0}, 0.3),
    "a third of the connections closed after 2,000 bytes": ("limit_data", {"bytes": 2000}, 0.3),
}


@pytest.mark.matrix("S3, {words}", GOES_ON)
@pytest.mark.parametrize("words", TOXICS)
@on("moto")
def test_a_bad_line(spark: SparkSession, case: Case, stopwatch: Stopwatch, toxiproxy_url: str, words: str) -> None:
    """A line to the store that is slow, or breaks, loses and doubles nothing."""
    [settings] = case.place.settings
    assert settings.endpoint is not None
    kind, attributes, toxicity = TOXICS[words]
    with linked(toxiproxy_url, settings.endpoint.partition("://")[2]) as link, case.watch():
        link.poison(kind, attributes, toxicity=toxicity)
        stopwatch.start()
        record = case.again(through(case, f"http://{link.address}", attempts=12))
        stopwatch.stop()
    check_published(case, record)


@pytest.mark.matrix("HDFS, 50 ms of latency to the name node", GOES_ON)
@on("hdfs")
def test_a_slow_name_node(spark: SparkSession, case: Case, stopwatch: Stopwatch, toxiproxy_url: str) -> None:
    """A name node that is far away is waited for."""
    name_node = case.place.uri.partition("://")[2].partition("/")[0]
    with linked(toxiproxy_url, name_node) as link, case.watch():
        link.poison("latency", {"latency": 50, "jitter": 10})
        stopwatch.start()
        record = case.again(case.job(uri=case.place.uri.replace(name_node, link.address)))
        stopwatch.stop()
    check_published(case, record)
