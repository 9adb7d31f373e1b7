"""Why Spark gave up, for a person: its own text has the cause somewhere between two traces of the JVM.

What is known to happen on clusters is a row of `FAULTS`, with what to do. docs/FAILURES.md has the same rows.
"""

from __future__ import annotations

import contextlib
import re
import sys
from typing import TYPE_CHECKING, NamedTuple

from etl.errors import PLACE
from etl.spark.sessions import is_connect

if TYPE_CHECKING:
    from collections.abc import Generator

    from pyspark.sql import SparkSession

__all__ = ["FAULTS", "Fault", "asking", "cause_of", "failure_of", "fault_of"]

_PYTHON = re.compile(
    r"^(?:(?:etl|scoring|jobs)\.errors\.\w+:|[\w.]*(?:Error|Exception|Exit|Interrupt)\b).*$", re.MULTILINE
)
"""The last line of a traceback. Our own errors are named for what is the case, so they are known by where they are."""

_TRACE = "\n\nJVM stacktrace:"
_OF_FILES = "[FAILED_TO_CREATE_PLAN_FOR_DIRECT_QUERY]"
"""What Spark 4 says of whatever is wrong with files that a query names."""
_BY_PY4J = "An error occurred while calling "
_NAMED = re.compile(r"^(?:[a-z]\w*\.)+\w+: (?=\[[A-Z])")
"""A class of Java before an error that Spark has named itself: Spark 3.5 gives it, Spark 4 does not."""

_PLACED = re.compile(rf"^{PLACE}(.+)$", re.MULTILINE)
_LOST = re.compile(r"Lost task \S+ in stage \S+ \(TID \d+\) \((?P<host>\S+) executor (?P<executor>[^)]+)\)")

_PACK = "Pack a Python that has it and hand it to the workers: `batchscore pack --upload URI`, then --environment."
_MEMORY = (
    "Give executors more memory beside the heap (spark.executor.memoryOverhead; `batchscore plan` tells what a task "
    "needs), run fewer tasks in each (spark.executor.cores), or score fewer rows at once (scoring.batch_rows)."
)
_GONE = "Spark's JVM is gone"
_LOOK = "`spark-submit.sh --doctor` asks every worker."


class Fault(NamedTuple):
    """A way in which jobs are known to fail on clusters."""

    name: str
    """As docs/FAILURES.md has it."""
    pattern: str
    """A regular expression, which finds what Spark says then."""
    told: str
    """What is the case, with the pattern's groups by name, and `python`: what a worker was to run."""
    hint: str
    """What to do."""
    is_of_jvm: bool = False
    """Whether the pattern may stand anywhere in Spark's text, and not only in the line that is the cause."""


FAULTS = (
    Fault(
        "no Python",
        r'Cannot run program "(?P<program>[^"]+)"[^\n]*?error=(?:2|20)\b',
        "a worker is to start {program}, which is not on its host",
        "PYSPARK_PYTHON has to name a Python of every host; or ship one: `batchscore pack`, then --environment.",
        is_of_jvm=True,
    ),
    Fault(
        "no right to start Python",
        r'Cannot run program "(?P<program>[^"]+)"[^\n]*?error=(?P<errno>\d+), (?P<why>[^\n]+)',
        "a worker cannot start {program}: {why}",
        "The file has to be a program for the worker's kind of machine, which its user may execute.",
        is_of_jvm=True,
    ),
    Fault(
        "Python ends at once",
        r"pyspark\.daemon's stdout",
        "the Python of a worker, {python}, ended before it had begun",
        "Start it by hand on that host: most often it links to libraries that are not there. Pack it on the "
        "distribution that the hosts run.",
        is_of_jvm=True,
    ),
    Fault(
        "code missing",
        r"ModuleNotFoundError: No module named '(?P<package>etl|scoring|jobs)\b",
        "a worker has not got our code: no {package}",
        "Submit by spark-submit.sh, which ships it; or set spark.submit.pyFiles to the zip of etl, scoring and jobs.",
    ),
    Fault(
        "package missing",
        r"(?:ModuleNotFoundError: No module named '|\[PACKAGE_NOT_INSTALLED\] )(?P<package>[\w]+)",
        "the Python of a worker, {python}, lacks the package {package}",
        f"{_PACK} {_LOOK}",
    ),
    Fault(
        "package too old",
        r"(?:\[UNSUPPORTED_PACKAGE_VERSION\] (?P<said>[^\n]+)|ImportError: cannot import name '(?P<name>\w+)' from "
        r"'(?P<package>\w+))",
        "a package of the workers' Python, {python}, is of another version than this release needs",
        f"{_PACK} {_LOOK}",
    ),
    Fault(
        "library missing",
        r"(?:ImportError|OSError): (?P<library>\S+\.so\S*): (?:cannot open shared object file|version )",
        "the Python of a worker, {python}, lacks the system's library {library}",
        "Pack on the distribution that the hosts run, or a Python that brings its own libraries (docs/DEPLOY.md).",
    ),
    Fault(
        "Python of another version",
        r"\[PYTHON_VERSION_MISMATCH\] Python in worker has different version:? \(?(?P<there>[\d., ]+?)\)? than that in "
        r"driver:? (?P<here>[\d.]+)",
        "the workers' Python, {python}, is {there}, the driver's {here}",
        "They have to be the same: set PYSPARK_PYTHON for both, or ship one: `batchscore pack`, then --environment.",
    ),
    Fault(
        "memory of an executor",
        r"(?:beyond (?:the ')?(?:physical|PHYSICAL|virtual|VIRTUAL)'? memory limit|killed by YARN for exceeding|"
        r"OOMKilled|(?:[Ee]xit(?:ed with)? (?:code|status):?|exited with code) 137\b)",
        "an executor was killed, by its memory limit as it seems",
        _MEMORY,
        is_of_jvm=True,
    ),
    Fault(
        "heap of an executor",
        r"java\.lang\.OutOfMemoryError: (?P<what>[^\n]+)",
        "a JVM of Spark had no memory left: {what}",
        "Raise spark.executor.memory, or spark.driver.memory where the driver says it.",
        is_of_jvm=True,
    ),
    Fault(
        "Python worker dies",
        r"Python worker exited unexpectedly \(crashed\)",
        "the Python of a worker, {python}, died",
        f"It crashed in native code, or was killed for its memory. {_MEMORY}",
        is_of_jvm=True,
    ),
    Fault(
        "executor lost",
        r"ExecutorLostFailure \(executor (?P<number>\S+) [^\n]*?\) Reason: (?P<why>[^\n]+)",
        "executor {number} went away: {why}",
        "Its own log says why, on the cluster's page or by `yarn logs`. Hosts that are taken back (spot) do that, too.",
        is_of_jvm=True,
    ),
    Fault(
        "application removed",
        r"Master removed our application: (?P<state>\w+)",
        "the cluster gave the application up ({state}): its executors ended again and again",
        "The stderr of an executor says why: on the master's page, or in the work folder of a worker.",
        is_of_jvm=True,
    ),
    Fault(
        "Sparks that differ",
        r"(?:java\.io\.InvalidClassException: (?P<name>org\.apache\.spark[\w.$]*)|java\.lang\.(?:NoSuchMethodError|"
        r"NoClassDefFoundError|NoSuchFieldError):[^\n]*\borg[./]apache[./]spark)",
        "the driver's Spark and the cluster's are of different versions",
        "Set SPARK_HOME to a Spark of the cluster's version, or submit with --deploy-mode cluster.",
        is_of_jvm=True,
    ),
    Fault(
        "no right to a store",
        r"(?m)(?:AccessDenied|Status Code: 403|(?:^|: )403 Forbidden|Permission denied: user=|AccessControlException)",
        "the store refuses the job: {cause}",
        "Give the job's identity the rights of docs/iam, on the driver and on the workers.",
        is_of_jvm=True,
    ),
    Fault(
        "disk full",
        r"(?:No space left on device|\[Errno 28\])",
        "a disk of a worker is full: {cause}",
        "Free it, or name a larger one by spark.local.dir or TMPDIR.",
        is_of_jvm=True,
    ),
    Fault(
        "driver's JVM gone",
        rf"(?:{_GONE}|Answer from Java side is empty|while trying to connect to the Java server|"
        r"Error while (?:sending or )?receiving|SparkContext was shut down|stopped SparkContext)",
        "Spark itself ended under the driver",
        "Its log says why; often it was killed for its memory: raise spark.driver.memory.",
        is_of_jvm=True,
    ),
    Fault(
        "service out of reach",
        r"(?:Connection (?:to \S+ )?refused|UnknownHostException|Name or service not known|[Cc]onnect\w* timed out)",
        "a service that the job needs cannot be reached: {cause}",
        "See that it runs, and that the hosts of the driver and of the workers may reach it at that address.",
        is_of_jvm=True,
    ),
)
"""What is recognised; of several that fit the first one is told."""


@contextlib.contextmanager
def asking() -> Generator[None]:
    """Calls of Spark, of which some clean up after an error by asking the JVM again: what that hides is told.

    `collect` takes back the name of its call site. Where a signal to all processes has ended the JVM by then, that
    fails, and would turn the signal into a failure; where the JVM died by itself, into an error of a socket.

    Raises:
        KeyboardInterrupt: a signal came.
        Py4JNetworkError: the JVM is gone.
    """
    before = sys.exception()
    try:
        yield
    except Exception as error:
        first: BaseException | None = error
        while first is not None and first is not before:
            if isinstance(first, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            first = first.__context__
        if isinstance(error, ConnectionError):
            from py4j.protocol import Py4JNetworkError  # noqa: PLC0415  only calls of Spark need it

            raise Py4JNetworkError(_GONE) from error
        raise


def cause_of(text: str) -> str:
    """The one line of a Spark error that a person wants.

    The last line of a Python traceback, else Java's last cause where py4j has wrapped it, else the first line.
    """
    text, _, trace = text.partition(_TRACE)
    causes = re.findall(r"^Caused by: (.+)$", trace, re.MULTILINE)
    if text.startswith(_OF_FILES) and causes:
        return str(causes[-1]).strip().rstrip(".")
    head, _, _ = text.partition("\n\tat ")
    python = [found[0] for found in _PYTHON.finditer(head)]
    java = re.findall(r"^(?:: |Caused by: )(.+)$", text, re.MULTILINE) if text.startswith(_BY_PY4J) else []
    first = [line for line in text.splitlines() if line.strip()][:1]
    lines = python or java or first or ["it gave no reason"]
    return _NAMED.sub("", lines[-1].strip()).rstrip(".")


def fault_of(text: str) -> tuple[Fault, re.Match[str]] | None:
    """The known fault that a text of Spark tells of, and where it does."""
    cause = cause_of(text)
    for fault in FAULTS:
        found = re.search(fault.pattern, text if fault.is_of_jvm else cause)
        if found is not None:
            return fault, found
    return None


def failure_of(error: Exception, spark: SparkSession) -> str:
    """What failed, where, and what to do, each a line."""
    # A session of Spark Connect does not tell what it starts on its workers.
    context = None if is_connect(spark) else spark.sparkContext
    python = "which the server chose" if context is None else str(context.pythonExec)
    # PySpark keeps Java's side of an error, which names the worker, apart from its text.
    text = f"{error}\n{getattr(error, '_stackTrace', None) or ''}"
    cause = cause_of(str(error))
    recognised = fault_of(text)
    host, place = _LOST.search(text), _PLACED.search(text)
    if recognised is None:
        lines = [f"{cause}."]
    else:
        fault, found = recognised
        lines = [f"{fault.told.format(python=python, cause=cause, **found.groupdict())}."]
    where = [place[1]] if place is not None else []
    where += [f"on {host['host']} (executor {host['executor']})"] if host is not None else []
    lines += [f"  {', '.join(where)}"] if where else []
    return "\n".join([*lines, *([recognised[0].hint] if recognised is not None else [])])
