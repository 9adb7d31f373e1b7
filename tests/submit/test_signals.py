"""A signal to spark-submit.sh reaches the Python driver, whose exit code is still returned."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import sys

import pytest

# As Spark does: start the driver, wait for it, return its code; and die of any signal.
FAKE_SPARK = f"""#!{sys.executable}
import subprocess, sys, time
job = sys.argv[[word.endswith("jobs/main.py") for word in sys.argv].index(True):]
if "--limit" in job:
    print("no driver yet", flush=True)
    time.sleep(60)
sys.exit(subprocess.call([sys.executable, *job]))
"""
DRIVER = """
import os, signal, sys, time

def cancelled(number, frame):
    time.sleep(0.3)
    os.write(1, f"cancelled by {signal.Signals(number).name}\\n".encode())  # it may come within a print
    sys.exit(1)

signal.signal(signal.SIGINT, cancelled)
signal.signal(signal.SIGTERM, cancelled)
print("working", flush=True)
time.sleep(60)
"""


KILLED_SPARK = f"""#!{sys.executable}
import os, signal, subprocess, sys
subprocess.Popen([sys.executable, *sys.argv[[word.endswith("jobs/main.py") for word in sys.argv].index(True):]])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_jvm_that_is_killed_leaves_the_driver_its_last_words(project):
    """As where memory is short: nobody has the driver's exit code then, so it is 3, and the shell says nothing."""
    project.write("jobs/main.py", "import time\ntime.sleep(1)\nprint('error: Spark itself ended', flush=True)\n")
    (project.spark / "bin" / "spark-submit").write_text(KILLED_SPARK, encoding="utf-8")
    done = project.submit("a.yaml")
    assert (done.returncode, done.stdout) == (3, "error: Spark itself ended\n")
    assert done.stderr == "spark-submit.sh: Spark was killed by signal 9. Run the same id again to go on.\n"


@pytest.fixture
def start(project):
    """A function that starts the script in a session of its own and waits for its first line."""
    started = []
    # Under nohup the tests, and so the script, would be told to ignore it, and a shell cannot trap what it ignores.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def run(*arguments, **variables):
        process = subprocess.Popen(
            [project.command, "a.yaml", *arguments],
            cwd=project.cwd,
            env={**project.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout
        return process, process.stdout.readline()

    project.write("jobs/main.py", DRIVER)
    (project.spark / "bin" / "spark-submit").write_text(FAKE_SPARK, encoding="utf-8")
    yield run
    signal.signal(signal.SIGHUP, before)
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize(("sent", "received"), [("SIGINT", "SIGINT"), ("SIGTERM", "SIGTERM"), ("SIGHUP", "SIGTERM")])
def test_a_signal_reaches_the_driver_and_its_code_is_returned(start, sent, received):
    """The driver gets the signal and ends in its own time; the script waits, and returns its code."""
    process, first = start()
    assert first == "working\n"
    process.send_signal(signal.Signals[sent])
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, output, errors) == (1, f"cancelled by {received}\n", "")


def test_control_c_reaches_the_driver_alone(start):
    """A terminal's Ctrl-C, which goes to the whole foreground group, does not kill the JVM under the driver."""
    process, _ = start()
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert (process.returncode, output) == (1, "cancelled by SIGINT\n")


def test_a_signal_before_there_is_a_driver_ends_everything(start):
    """As long as no driver is there, a signal ends Spark, and the code tells that a signal did it."""
    process, first = start("--limit", "1")
    assert first == "no driver yet\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM


def test_the_driver_is_told_what_was_typed(start, project):
    """The driver knows the command line word for word, Spark's options too, so that it can tell how to go on."""
    project.write("jobs/main.py", "import os, shlex\nprint(shlex.split(os.environ['BATCHSCORE_COMMAND']))\n")
    words = ["--set", "doc=it's $HOME", "--conf", "spark.x=1 2"]
    _, first = start(*words)
    assert ast.literal_eval(first) == [str(project.command), "a.yaml", *words]


@pytest.mark.spark
def test_control_c_cancels_a_run_on_real_spark(start):
    """On the real Spark, too, Ctrl-C reaches the driver, and the JVM hands on the code that it ends with."""
    process, first = start(SPARK_HOME="", SPARK_SUBMIT_OPTS=os.environ["SPARK_SUBMIT_OPTS"])
    assert first == "working\n"
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (1, "cancelled by SIGINT\n", "")
