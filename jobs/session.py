"""The one place that starts or adopts a SparkSession."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from etl.redaction import redacted
from etl.runs.s3a import s3a_options
from etl.spark.causes import asking, cause_of
from etl.spark.sessions import is_connect, parallelism, query_loggers
from jobs.errors import SparkNotStarted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from pyspark.sql import SparkSession

    from jobs.config.spark import Spark

__all__ = ["Cluster", "cluster_of", "counted", "session_scope", "start_session", "stoppable"]

_DEFAULTS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}
_S3 = {
    # Distributions of AWS know `s3://` by another file system; Spark itself knows only `s3a://`.
    "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
    "spark.hadoop.fs.AbstractFileSystem.s3.impl": "org.apache.hadoop.fs.s3a.S3A",
}
_STOP_SECONDS = 15.0
_ANSWER_SECONDS = 10.0
_CONNECT_PORT = 15002
_OF_CLUSTERS = (
    "spark.default.parallelism",
    "spark.driver.resource.gpu.amount",
    "spark.executor.cores",
    "spark.executor.instances",
    "spark.executor.resource.gpu.amount",
)
"""Settings that tell of executors and their GPUs."""


def start_session(app: str, config: Spark) -> SparkSession:
    """A session: spark-submit's or the caller's where there is one, else a new one as the config says.

    A new one reaches S3 as `storage` says, by all that Spark does; another one where tables are read and frozen.
    Workers must run the driver's interpreter: without PYSPARK_PYTHON they start whatever `python3` is.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    from pyspark.sql import SparkSession  # noqa: PLC0415  half a second that refused configs need not pay

    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    builder = SparkSession.builder.appName(app)
    if "PYSPARK_GATEWAY_PORT" not in os.environ and (remote := config.remote or os.environ.get("SPARK_REMOTE")):
        return _connected(builder, remote, config)
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        with warnings.catch_warnings(), _starting("with what spark-submit was given", "its options"):
            # In YARN's cluster mode Spark looks for our zip where it was on the host that submitted it. We run from it.
            warnings.filterwarnings("ignore", r"Failed to add file .* 'spark\.submit\.pyFiles'", RuntimeWarning)
            session = builder.getOrCreate()
        _tell_what_is_not_used(session, config)
        return _hushed(session)
    builder = builder.master(config.master)
    stores = {f"spark.hadoop.{key}": value for key, value in s3a_options().items()}
    for key, value in {**_DEFAULTS, **_S3, **stores, **config.conf}.items():
        builder = builder.config(key, value)
    with _starting(f"with spark.master {config.master!r}", "spark.master and spark.conf"):
        return _hushed(builder.getOrCreate())


@contextlib.contextmanager
def _starting(how: str, where: str) -> Generator[None]:
    """Spark's failure to start as ours; `how` it was asked, and `where` a person is to look.

    Raises:
        SparkNotStarted: with the cause.
    """
    try:
        with asking():
            yield
    except Exception as error:  # a setting that Spark refuses has an error of py4j, of Java or of PySpark
        said = cause_of(str(error) or type(error).__name__)
        raise SparkNotStarted(f"Spark did not start {how}: {said}. Check {where}.") from error


def _connected(builder: Any, remote: str, config: Spark) -> SparkSession:
    """A session of a Spark Connect server, which was started with settings of its own.

    Raises:
        SparkNotStarted: nobody answers, or this Python lacks what it takes to ask.
    """
    where = re.split("/?;", remote)[0]  # what follows may be a token
    try:
        place = urlsplit(where)
        if place.scheme == "sc":
            # Spark would go on trying for minutes.
            socket.create_connection((place.hostname, place.port or _CONNECT_PORT), _ANSWER_SECONDS).close()
        session: SparkSession = builder.remote(remote).getOrCreate()
        for key, value in config.conf.items():
            if session.conf.isModifiable(key):
                session.conf.set(key, value)
    except ImportError as error:
        message = f"Spark Connect needs the packages of pyspark[connect]: {error}."
        raise SparkNotStarted(message) from error
    except Exception as error:  # of the net, of gRPC or of PySpark
        said = next(iter(redacted(str(error)).strip().splitlines()), type(error).__name__).rstrip(".")
        message = f"no session of Spark Connect at {where}: {said}. Check spark.remote, or SPARK_REMOTE."
        raise SparkNotStarted(message) from error
    # They would print the server's whole trace of each failed query, whose cause is in the error that we raise.
    for logger in query_loggers():
        logger.disabled = True
    _tell_what_is_not_used(session, config)
    return session


def _hushed(session: SparkSession) -> SparkSession:
    """Without a traceback on the terminal where the JVM ends first, as by a signal to the whole process group.

    The thread that is told of accumulators would write one; whoever needs the JVM has an error of his own.
    """
    server = getattr(session.sparkContext, "_accumulatorServer", None)
    if server is not None:
        tell = server.handle_error

        def tell_others(request: object, address: object) -> None:
            if not isinstance(sys.exception(), EOFError | ConnectionError):
                tell(request, address)

        server.handle_error = tell_others
    return session


def _tell_what_is_not_used(session: SparkSession, config: Spark) -> None:
    """What the config says must not seem to hold where spark-submit's own options decide, or those of a server."""
    is_served = is_connect(session)
    if config.remote is not None and not is_served:
        sys.stderr.write("spark.remote of the config is not used under spark-submit.\n")
    if "master" in config.model_fields_set and session.conf.get("spark.master", None) != config.master:
        instead = "with Spark Connect" if is_served else "under spark-submit; pass --master"
        sys.stderr.write(f"spark.master of the config is not used {instead}.\n")
    differing = [key for key, value in config.conf.items() if session.conf.get(key, None) != value]
    if differing:
        names = ", ".join(differing)
        how = f"with Spark Connect ({names}); set it where the server is started"
        how = how if is_served else f"under spark-submit ({names}); pass --conf"
        sys.stderr.write(f"spark.conf of the config is not used {how}.\n")


class Cluster(NamedTuple):
    """What Spark has at a moment."""

    executors: int
    """With a `local` master 1, which is the driver; 0 where Spark does not tell."""
    cores: int
    """Tasks that run at once."""
    gpus: float = 0.0
    """Of all executors, as the session's settings say."""
    is_local: bool = False


def cluster_of(spark: SparkSession) -> Cluster:
    """What Spark has now."""
    if is_connect(spark):
        found = {key: spark.conf.get(key, None) for key in _OF_CLUSTERS}
        conf = {key: value for key, value in found.items() if value is not None}
        return counted(str(spark.conf.get("spark.master", "")), conf, parallelism(spark))
    context = spark.sparkContext
    return counted(str(context.master), dict(context.getConf().getAll()), parallelism(spark))


def counted(master: str, conf: Mapping[str, str], cores: int) -> Cluster:
    """Executors, by the number of tasks that Spark would run at once and the cores of an executor.

    No public interface counts them. Without `spark.executor.cores` one has 1 core, or, on a standalone cluster, all of
    its host's; how many there are is then known by `spark.executor.instances` only.
    """
    if re.fullmatch(r"local(\[.*\])?", master):
        return Cluster(1, cores, float(conf.get("spark.driver.resource.gpu.amount", "0")), is_local=True)
    gpus = float(conf.get("spark.executor.resource.gpu.amount", "0"))
    local = re.fullmatch(r"local-cluster\[\s*\d+\s*,\s*(\d+)\s*,\s*\d+\s*\]", master)
    each = local[1] if local is not None else conf.get("spark.executor.cores", "")
    # A parallelism that was set says nothing of the cluster.
    if "spark.default.parallelism" not in conf and (each or not master.startswith("spark://")):
        executors = cores // int(each or 1)
    else:
        executors = int(conf.get("spark.executor.instances", "0"))
    return Cluster(executors, cores, gpus * executors)


@contextlib.contextmanager
def stoppable(spark: SparkSession) -> Generator[Callable[[], None]]:
    """Gives what stops all that this thread has Spark do inside; other work of the session goes on."""
    session: Any = spark
    tag = f"batchscore-{secrets.token_hex(8)}"
    if is_connect(spark):
        add, cancel, remove = session.addTag, session.interruptTag, session.removeTag
    else:
        context = session.sparkContext
        add, cancel, remove = context.addJobTag, context.cancelJobsWithTag, context.removeJobTag
    add(tag)
    try:
        yield lambda: cancel(tag)
    finally:
        with contextlib.suppress(Exception):
            remove(tag)


@contextlib.contextmanager
def session_scope() -> Generator[None]:
    """Stop a session that was started inside, and what it runs, so that a command leaves nothing behind."""
    before = _active_session()
    try:
        yield
    finally:
        started = None
        # A JVM that is gone, as by a signal to the whole process group, has nothing left to stop.
        with contextlib.suppress(Exception):
            started = _active_session()
        if started is not None and before is None:
            _stop(started)


def _active_session() -> SparkSession | None:
    if "pyspark.sql" not in sys.modules:
        return None
    from pyspark.sql import SparkSession  # noqa: PLC0415  it is loaded

    return SparkSession.getActiveSession()


def _stop(session: SparkSession) -> None:
    """Without a word: whatever a dying JVM still has to say, the run has been recorded. Nor may it hold the process."""

    def stop() -> None:
        any_session: Any = session
        with contextlib.suppress(Exception):
            if is_connect(session):
                any_session.interruptAll()
            else:
                session.sparkContext.cancelAllJobs()
        with contextlib.suppress(Exception):
            session.stop()

    thread = threading.Thread(target=stop, daemon=True, name="stop Spark")
    thread.start()
    thread.join(_STOP_SECONDS)
