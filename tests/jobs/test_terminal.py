"""The process of a command: where Spark's log goes, and what signals do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from jobs.commands.process import Interruption

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """
import subprocess, sys
from jobs.errors import Refused, SplitsFailed
from jobs.commands.process import spark_log

def jvm():
    subprocess.run([sys.executable, "-c", "import sys; print('noise', file=sys.stderr)"], check=True)

try:
    with spark_log({debug}):
        jvm()
        print("ours", file=sys.stderr)
        {end}
except Exception as error:
    print(repr(error), *getattr(error, "__notes__", ()), file=sys.stderr)
jvm()
"""


def errors_of(folder: Path, end: str, *, debug: bool = False, **variables: str) -> list[str]:
    """Lines on standard error of a process that starts a noisy one within `spark_log`, and one behind it."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(end=end, debug=debug)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TMPDIR": str(folder), **variables},
    )
    return done.stderr.splitlines()


def test_spark_writes_into_a_file_that_goes(tmp_path: Path) -> None:
    """What a child process writes does not reach the terminal, what we write does, and no file is left behind."""
    assert errors_of(tmp_path, "pass") == ["ours", "noise"]
    assert list(tmp_path.iterdir()) == []


def test_what_py4j_logs_does_not_reach_the_terminal(tmp_path: Path) -> None:
    """Neither by its own loggers nor by the root one, whose handler writes what all others log."""
    by_root = "exec(compile('logging.error(1)', 'py4j/java_gateway.py', 'exec'))"
    logs = f"logging.error('our log'); logging.getLogger('py4j.clientserver').error('theirs'); {by_root}"
    lines = errors_of(tmp_path, f"import logging, py4j.java_gateway; {logs}")
    assert lines == ["ours", "ERROR:root:our log", "noise"]


def test_spark_log_is_kept_for_a_failure(tmp_path: Path) -> None:
    """After a failure the error names the file, which has what the child process wrote."""
    lines = errors_of(tmp_path, "raise SplitsFailed('gone')")
    (log,) = tmp_path.iterdir()
    assert lines == ["ours", f"SplitsFailed('gone') Spark's own log: {log}", "noise"]
    assert log.read_text() == "noise\n"


def test_a_refusal_leaves_no_log(tmp_path: Path) -> None:
    """Where the request was refused Spark's log would say nothing, and is removed."""
    assert errors_of(tmp_path, "raise Refused('no')") == ["ours", "Refused('no')", "noise"]
    assert list(tmp_path.iterdir()) == []


def test_who_debugs_sees_everything(tmp_path: Path) -> None:
    """With --debug, and under spark-submit, whose settings decide, nothing is sent elsewhere."""
    assert errors_of(tmp_path, "pass", debug=True) == ["noise", "ours", "noise"]
    assert errors_of(tmp_path, "pass", PYSPARK_GATEWAY_PORT="1") == ["noise", "ours", "noise"]


@pytest.fixture
def handlers() -> Iterator[None]:
    """Python's own handlers, whatever nohup or a shell's job control made of them; put back afterwards."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_counts(handlers: None, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The first signal is KeyboardInterrupt, later ones are noted and change nothing."""
    interruption = Interruption()
    interruption.listen()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    assert capsys.readouterr().err.count("stopping") == 2


def test_what_is_decided_is_not_interrupted(handlers: None) -> None:
    """Once a run is decided no signal interrupts it."""
    interruption = Interruption()
    interruption.listen()
    interruption.hold()
    signal.raise_signal(signal.SIGTERM)


def test_nohup_is_respected(handlers: None) -> None:
    """A process that ignores SIGHUP from its start goes on ignoring it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Interruption().listen()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_signals_are_taken_back_in_our_own_process_only(handlers: None) -> None:
    """After Spark has taken SIGINT it is ours again; a process that never asked keeps its handlers."""

    def sparks(_number: int, _frame: object) -> None:
        """Stands for the handler that pyspark installs."""

    signal.signal(signal.SIGINT, sparks)
    interruption = Interruption()
    interruption.listen_again()
    assert signal.getsignal(signal.SIGINT) is sparks
    interruption.listen()
    signal.signal(signal.SIGINT, sparks)
    interruption.listen_again()
    assert signal.getsignal(signal.SIGINT) is not sparks
