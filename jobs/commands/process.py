"""The process that a command runs in: signals, its streams, and where Spark's own log goes."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from jobs.errors import Cancelled, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

__all__ = ["Interruption", "spark_log", "take_streams"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_STREAMS = {"BATCHSCORE_STDOUT": 1, "BATCHSCORE_STDERR": 2}
"""Variables of spark-submit.sh, and the numbers of the streams that they name."""


def take_streams() -> None:
    """Open the streams that spark-submit.sh names, its terminal where it has one.

    Spark starts the driver with both streams as one pipe, which it copies to standard output: there would be no bar on
    a terminal, and errors would be among the results. What cannot be opened stays as Spark has made it.
    """
    for variable, number in _STREAMS.items():
        path = os.environ.pop(variable, None)
        if path is None:
            continue
        with contextlib.suppress(OSError):
            stream = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
            os.dup2(stream, number)
            os.close(stream)


class Interruption:
    """The first signal stops what runs, as KeyboardInterrupt; later ones wait until what was done is written down."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        """Nothing is installed yet. `tell` says that a signal was heard; without it standard error gets a line."""
        self._tell = tell or _print
        self._listens = False
        self._may_stop = True

    def listen(self) -> None:
        """Take the signals of this process."""
        self._listens = True
        self.listen_again()

    def listen_again(self) -> None:
        """Take back what Spark, when it starts, takes for itself: SIGINT. Nothing in a process not ours."""
        for number in _SIGNALS if self._listens else ():
            # nohup ignores SIGHUP on purpose.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)

    def hold(self) -> None:
        """From here on everything is decided, and a signal changes nothing: the process is about to end."""
        self._may_stop = False

    def end(self) -> None:
        """The process ends. The interpreter would restore the default handlers, and a late signal its exit code."""
        for number in _SIGNALS if self._listens else ():
            signal.signal(number, signal.SIG_IGN)

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        if self._may_stop:
            self._may_stop = False
            raise KeyboardInterrupt
        self._tell("stopping: what was done is being written down")


def _print(text: str) -> None:
    sys.stderr.write(f"{text}\n")


@contextlib.contextmanager
def spark_log(debug: bool = False) -> Generator[None]:  # noqa: FBT001, FBT002  on or off
    """Send the log of a JVM that starts inside to a file, because it would write across whatever is on the terminal.

    The JVM inherits the process's standard error, so that is the file meanwhile; what Python writes to `sys.stderr`
    still goes to the terminal. The file is removed, unless an error is raised: then a note on it names the file.
    Under spark-submit the JVM came first and has settings of its own; with `debug` its log is wanted. Then this does
    nothing.
    """
    if debug:
        yield
        return
    with _py4j_quiet():
        if "PYSPARK_GATEWAY_PORT" in os.environ:
            yield
        else:
            with _stderr_in_file():
                yield


@contextlib.contextmanager
def _stderr_in_file() -> Generator[None]:
    handle, name = tempfile.mkstemp(prefix="batchscore-spark-", suffix=".log")
    log = Path(name)
    with _python_stderr_kept():
        terminal = os.dup(2)
        os.dup2(handle, 2)
        os.close(handle)
        try:
            yield
        except Exception as error:
            if log.stat().st_size and not isinstance(error, Cancelled | Refused):
                error.add_note(f"Spark's own log: {log}")
                log = Path(os.devnull)
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            if log == Path(name):
                log.unlink(missing_ok=True)


@contextlib.contextmanager
def _py4j_quiet() -> Generator[None]:
    """Drop what py4j logs when a signal interrupts it: tracebacks, by the root logger and by loggers of its own."""

    def is_ours(record: logging.LogRecord) -> bool:
        return "py4j" not in record.pathname

    root, own = logging.getLogger(), logging.getLogger("py4j")
    root.addFilter(is_ours)
    # A filter of the root logger sees no record of another one, which goes to the root's handlers all the same.
    propagated, own.propagate = own.propagate, False
    try:
        yield
    finally:
        own.propagate = propagated
        root.removeFilter(is_ours)


@contextlib.contextmanager
def _python_stderr_kept() -> Generator[None]:
    """Let `sys.stderr` keep its target while file descriptor 2 gets another; a stream of its own needs no help."""
    before: TextIO = sys.stderr
    try:
        is_standard = before.fileno() == 2  # noqa: PLR2004  the number of standard error
    except (OSError, ValueError, AttributeError):
        is_standard = False
    if not is_standard:
        yield
        return
    before.flush()
    with os.fdopen(os.dup(2), "w", buffering=1, encoding=before.encoding, errors=before.errors) as kept:
        sys.stderr = kept
        try:
            yield
        finally:
            sys.stderr = before
