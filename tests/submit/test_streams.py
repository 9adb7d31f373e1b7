"""The driver's two streams, which Spark would hand on as one pipe, arrive where the script's own go."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios

import pytest

from tests.submit.conftest import ROOT, executable

# As Spark's PythonRunner does: one pipe for both streams of the driver, copied to standard output.
FAKE_SPARK = f"""#!{sys.executable}
import subprocess, sys
job = sys.argv[[word.endswith("jobs/main.py") for word in sys.argv].index(True):]
print("something that Java says", file=sys.stderr, flush=True)
driver = subprocess.Popen([sys.executable, *job], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
for chunk in iter(lambda: driver.stdout.read1(), b""):
    sys.stdout.buffer.write(chunk)
    sys.stdout.flush()
sys.exit(driver.wait())
"""
DRIVER = """
import os, sys
from rich.console import Console
from jobs.commands.process import take_streams

take_streams()
for stream in (sys.stdout, sys.stderr):
    console = Console(file=stream, highlight=False)
    print("result" if stream is sys.stdout else "error", console.is_terminal, console.width, file=stream)
sys.stderr.write("half\\rwhole\\n")
print(sorted(name for name in os.environ if name.startswith("BATCHSCORE_STD")))
sys.exit(1)
"""


@pytest.fixture
def merged(project):
    """A project whose Spark merges the driver's streams."""
    project.write("jobs/main.py", DRIVER)
    executable(project.spark / "bin" / "spark-submit", FAKE_SPARK)
    project.environment["PYTHONPATH"] = str(ROOT)
    return project


def test_in_a_log_results_and_errors_are_apart(merged):
    """Without a terminal results are on standard output, errors on standard error, and neither is drawn on."""
    done = merged.submit("a.yaml", COLUMNS="99")
    assert done.returncode == 1
    assert done.stdout == "result False 99\n[]\n"
    assert sorted(done.stderr.splitlines()) == ["error False 99", "half", "something that Java says", "whole"]


def test_errors_may_go_to_a_file(merged):
    """Standard error that is a file gets the lines of Spark and of the driver, behind those that it had."""
    log = merged.folder / "log"
    log.write_text("before\n", encoding="utf-8")
    with log.open("a", encoding="utf-8") as file:
        subprocess.run(
            [merged.command, "a.yaml"],
            cwd=merged.cwd,
            env={**merged.environment, "COLUMNS": "99"},
            check=False,
            stdout=subprocess.PIPE,
            stderr=file,
            timeout=60,
        )
    lines = log.read_text(encoding="utf-8").splitlines()
    assert lines == ["before", "something that Java says", "error False 99", "half", "whole"]


def on_a_terminal(project, **streams):
    """What a terminal of 120 columns shows of a call, and the finished process."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    environment = {**project.environment, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [project.command, "a.yaml"],
        cwd=project.cwd,
        env=environment,
        **{"stdin": theirs, "stdout": theirs, "stderr": theirs, **streams},
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # Nobody has the terminal any more.
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    return shown.decode(), process


def test_a_terminal_reaches_the_driver(merged):
    """On a terminal both streams of the driver are that terminal, with its width, and every byte arrives."""
    shown, process = on_a_terminal(merged)
    assert process.wait(20) == 1
    for line in ("result True 120", "error True 120", "half\rwhole", "something that Java says", "[]"):
        assert f"{line}\r\n" in shown


def test_results_may_go_into_a_pipe_while_the_terminal_shows_errors(merged):
    """With standard output in a pipe, only standard error is the terminal."""
    shown, process = on_a_terminal(merged, stdout=subprocess.PIPE)
    assert process.stdout
    with process.stdout:
        assert process.stdout.read() == b"result False 120\n[]\n"
    assert process.wait(20) == 1
    assert "error True 120\r\n" in shown
    assert "result" not in shown


def test_what_cannot_be_opened_stays_as_it_is(merged):
    """A stream that the driver may not open leaves it with what Spark gave it."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        env={**merged.environment, "BATCHSCORE_STDERR": "/nowhere/else", "COLUMNS": "99"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "error False 99\nhalf\nwhole\n")


def test_the_last_line_arrives_although_the_script_is_process_1(project, program):
    """Where the script is process 1, and with it every process ends, its filter has still written the last lines."""
    slow = program("grep", f'#!/usr/bin/env bash\nsleep 0.5\nexec {shutil.which("grep")} "$@"\n')
    inside = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", project.command, "a.yaml"]
    done = subprocess.run(
        inside,
        cwd=project.cwd,
        env={**project.environment, "EXIT_CODE": "3", "PATH": f"{slow.parent}:{project.environment['PATH']}"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (3, "something else that Java says\n")
