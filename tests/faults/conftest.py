"""Stores, drivers and clusters that are disturbed."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etl.runs.store_settings import configure
from tests.faults import drivers
from tests.faults.case import Case
from tests.faults.stopwatch import Stopwatch
from tests.stores.places import PLACES, Place, S3Place
from tests.stores.proxy import proxied
from tests.stores.servers import CREDENTIALS, free_port, toxiproxy

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager

    from pyspark.sql import SparkSession

    from tests.faults.drivers import Driver, Nursery
    from tests.stores.proxy import Asked, Fault

_STOPWATCH = pytest.StashKey[Stopwatch]()


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A session whose workers have credentials, since it is started behind them. Where a store is, configs say."""
    from jobs.config.spark import Spark
    from jobs.session import start_session

    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        session = start_session("batchscore tests", Spark(conf={"spark.sql.shuffle.partitions": "2"}))
        yield session
        session.stop()


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Place:
    """A folder in the store that the test's parameter names; `stores` makes it one."""
    store = request.param
    if store == "moto":
        bucket = request.getfixturevalue("bucket")
        found: Place = S3Place(bucket, os.environ["AWS_ENDPOINT_URL_S3"])
    else:
        found = PLACES[store](request)
    configure(found.settings)
    return found


@pytest.fixture
def bare_case(place: Place, tmp_path: Path, logistic_onnx: Path) -> Case:
    """A job in the place, without input."""
    return Case(place, tmp_path, logistic_onnx)


@pytest.fixture
def case(bare_case: Case) -> Case:
    """A job over four files of the place."""
    bare_case.fill(files=4, rows=200)
    return bare_case


@pytest.fixture
def small_case(bare_case: Case) -> Case:
    """One over a single file."""
    bare_case.fill(files=1, rows=200)
    return bare_case


@pytest.fixture
def long_case(bare_case: Case) -> Case:
    """One that takes a while: 16 tasks."""
    bare_case.fill(files=16, rows=200)
    return bare_case


@pytest.fixture
def stopwatch(request: pytest.FixtureRequest) -> Stopwatch:
    """Seconds to recover, of this test; kept where it passes."""
    return request.node.stash.setdefault(_STOPWATCH, Stopwatch(request.node.nodeid))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: object) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the seconds of a test that has passed."""
    report: pytest.TestReport = yield
    if report.when == "call" and report.passed and _STOPWATCH in item.stash:
        item.stash[_STOPWATCH].keep()
    return report


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """The process from which drivers are forked."""
    with drivers.nursery() as found:
        yield found


@pytest.fixture
def drive(nursery: Nursery) -> Iterator[Callable[..., Driver]]:
    """What starts a driver of a job and a run id, with its lot. None outlives its test."""
    born: list[Driver] = []

    def start(job: Path, run_id: str = "r", **lot: object) -> Driver:
        born.append(nursery.drive(job, run_id, **lot))
        return born[-1]

    yield start
    for driver in born:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
        driver.code()


@pytest.fixture(scope="session")
def faulty() -> Iterator[Callable[..., AbstractContextManager[str]]]:
    """What gives the URL of a proxy before a server, while the test that has it says what becomes of requests.

    One proxy for all tests: each new one would cost every worker new clients.
    """
    judges: dict[str, Callable[[Asked], Fault | None]] = {}
    urls: dict[str, str] = {}
    with contextlib.ExitStack() as stack:

        @contextlib.contextmanager
        def disturbed(upstream: str, judge: Callable[[Asked], Fault | None]) -> Iterator[str]:
            judges[upstream] = judge
            if upstream not in urls:
                urls[upstream] = stack.enter_context(proxied(upstream, functools.partial(_judged, judges, upstream)))
            yield urls[upstream]
            judges[upstream] = lambda _: None

        yield disturbed


def _judged(judges: dict[str, Callable[[Asked], Fault | None]], upstream: str, asked: Asked) -> Fault | None:
    return judges[upstream](asked)


@pytest.fixture(scope="session")
def toxiproxy_url() -> Iterator[str]:
    """Puts ports before servers."""
    with toxiproxy() as url:
        yield url


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of Spark on two hosts, this one by two names: a twin of a task never runs on the same host."""
    import pyspark

    home, folder = str(Path(pyspark.__file__).parent), tmp_path_factory.mktemp("cluster")
    port = free_port()
    url = f"spark://127.0.0.1:{port}"
    told = {
        **os.environ,
        **CREDENTIALS,
        "SPARK_HOME": home,
        "SPARK_WORKER_DIR": str(folder),
        "SPARK_DAEMON_MEMORY": "256m",
    }
    start = [f"{home}/bin/spark-class", "org.apache.spark.deploy"]
    master = ["master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"]
    orders = [master] + [
        ["worker.Worker", "--host", host, "--webui-port", "0", "--cores", "1", "--memory", "1g", url]
        for host in ("127.0.0.2", "127.0.0.3")
    ]
    with contextlib.ExitStack() as stack:
        for number, (kind, *rest) in enumerate(orders):
            log = stack.enter_context((folder / f"{number}.log").open("wb"))
            command = [start[0], f"{start[1]}.{kind}", *rest]
            process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log, env=told))
            stack.callback(process.kill)
        master_log = folder / "0.log"
        drivers.until(lambda: master_log.read_text().count("Registering worker") == 2, "both workers register")
        yield url
