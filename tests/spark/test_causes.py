"""Faults of clusters, each made for real, and what is told of them: one cause, the place, and what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from py4j.protocol import Py4JNetworkError

from etl.spark.causes import asking, cause_of, fault_of
from jobs.errors import JobError, Refused, SplitsFailed
from scoring.errors import TasksFailed
from scoring.probing import Asked
from scoring.spark.probes import probe_workers
from tests.jobs.outputs import run_job, write_input, write_job

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from etl.errors import BatchscoreError

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

FAKE = """
import runpy, sys
_, minor, flag, module, *sys.argv[1:] = sys.argv
sys.version_info = type("V", (tuple,), {"major": 3, "minor": int(minor)})((3, int(minor), 0, "final", 0))
runpy.run_module(module, run_name="__main__")
"""
"""Starts a module as a Python of another version would see itself: none is on this machine."""
BROKEN = """
import runpy, sys
_, flag, module, *sys.argv[1:] = sys.argv
from scoring.engine.modelling import ModelStages
def fail(*_):
    raise ZeroDivisionError("a defect")
ModelStages._features = fail
runpy.run_module(module, run_name="__main__")
"""
"""Starts the workers' daemon with a defect in our code."""
LOST = Path(__file__).with_name("lost.py")


def python_without(folder: Path, *packages: str) -> str:
    """An interpreter that has the packages of this one but these; without any named, none at all."""
    venv.create(folder, symlinks=True)
    if packages:
        there = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if not path.name.startswith(packages) and path.suffix != ".pth":
                (there / path.name).symlink_to(path)
    return str(folder / "bin" / "python")


def program(path: Path, text: str) -> str:
    """A script that can be started."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return str(path)


class Cluster:
    """A session whose workers run another Python from here on, and a job."""

    def __init__(self, spark: SparkSession, folder: Path, onnx: Path) -> None:
        """The driver's own."""
        self.context: Any = spark.sparkContext
        self.conf = self.context._jsc.sc().conf()  # whose changes the JVM sees, as it is on this host
        self.folder, self.onnx = folder, onnx
        write_input(folder)

    def fail(self, python: str | None = None, run_id: str = "r", **sections: Any) -> BatchscoreError:
        """How a job ends that is not published."""
        before, daemon = self.context.pythonExec, self.conf.get("spark.python.daemon.module")
        self.context.pythonExec = python or before
        self.conf.set("spark.python.daemon.module", "pyspark.daemon")
        try:
            with pytest.raises((JobError, TasksFailed)) as caught:
                run_job(write_job(self.folder, self.onnx, **sections), run_id)
        finally:
            self.context.pythonExec = before
            self.conf.set("spark.python.daemon.module", daemon)
        assert "\tat " not in str(caught.value)
        assert "Traceback" not in str(caught.value)
        return caught.value


@pytest.fixture
def cluster(spark: SparkSession, tmp_path: Path, logistic_onnx: Path) -> Cluster:
    """Local, where workers are processes as elsewhere."""
    return Cluster(spark, tmp_path, logistic_onnx)


def test_a_python_that_is_not_there_is_named(cluster: Cluster) -> None:
    """Java's text of it, which ends in "No such file", is told as the program that a worker was to start."""
    told = str(cluster.fail("/nowhere/bin/python"))
    assert "a worker is to start /nowhere/bin/python, which is not on its host.\n  on " in told
    assert "`batchscore pack`, then --environment" in told


def test_a_python_that_may_not_be_started_is_named(cluster: Cluster, tmp_path: Path) -> None:
    """A file that nobody may execute is told with the system's own reason."""
    (tmp_path / "python").write_text("#!/bin/sh\n", encoding="utf-8")
    told = str(cluster.fail(str(tmp_path / "python")))
    assert f"a worker cannot start {tmp_path}/python: Permission denied" in told


def test_a_python_that_ends_at_once_is_named(cluster: Cluster, tmp_path: Path) -> None:
    """So is one that begins and ends, as where a library of the system is missing."""
    python = program(tmp_path / "python", "#!/bin/sh\nexit 127\n")
    assert f"the Python of a worker, {python}, ended before it had begun" in str(cluster.fail(python))


@pytest.mark.parametrize(("without", "missing"), [((), "pyarrow"), (("numpy",), "numpy"), (("pydantic",), "pydantic")])
def test_a_package_that_workers_lack_is_named(
    cluster: Cluster, tmp_path: Path, without: tuple[str, ...], missing: str
) -> None:
    """What dies in an import, before any line of ours runs, is told as package, interpreter, host, and what to do."""
    python = python_without(tmp_path / "venv", *without)
    told = str(cluster.fail(python))
    assert f"the Python of a worker, {python}, lacks the package {missing}.\n  on " in told
    assert "`batchscore pack --upload URI`" in told


def test_an_onnxruntime_that_workers_lack_is_named(cluster: Cluster, tmp_path: Path) -> None:
    """Our code runs by then, so what comes back is its own error, with split, file, host and interpreter."""
    python = python_without(tmp_path / "venv", "onnxruntime")
    told = str(cluster.fail(python))
    assert "needs onnxruntime, which is not installed here" in told
    assert "batchscore pack" in told
    assert f"split 0, {tmp_path}/in/part-0.parquet, on " in told
    assert f" by {python}" in told


def test_code_that_workers_lack_is_told(spark: SparkSession, tmp_path: Path) -> None:
    """A worker to which nobody has shipped our packages says so, and not that a package is to be installed."""
    text = "Traceback (most recent call last):\nModuleNotFoundError: No module named 'scoring.spark'\n"
    found = fault_of(text)
    assert found is not None
    assert found[0].name == "code missing"


def test_a_python_of_another_version_is_told_with_both(cluster: Cluster, tmp_path: Path) -> None:
    """The worker's version, the driver's, and what makes them the same."""
    (tmp_path / "fake.py").write_text(FAKE, encoding="utf-8")
    python = program(tmp_path / "python", f'#!/bin/sh\nexec {sys.executable} {tmp_path}/fake.py 9 "$@"\n')
    told = str(cluster.fail(python))
    assert f"the workers' Python, {python}, is 3.9, the driver's 3.{sys.version_info.minor}.\n  on " in told


def test_a_gpu_that_is_not_there_is_told_with_what_is(cluster: Cluster) -> None:
    """The device that was asked for, the providers that are there, and the usual reasons, once for all splits."""
    told = str(cluster.fail(scoring={"device": "cuda"}))
    assert "device cuda was asked for, onnxruntime " in told
    assert "CPUExecutionProvider" in told
    assert "Install onnxruntime-gpu in place of onnxruntime" in told
    assert "--gpus N" in told
    assert told.count("DeviceError") == 1


def test_an_input_that_only_the_driver_has_is_told(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that means another folder to each process is no file that was removed since the plan was made."""
    monkeypatch.chdir(tmp_path)
    error = cluster.fail(input={"files": "/proc/self/cwd/in"})
    assert type(error) is SplitsFailed
    assert "/proc/self/cwd/in/part-0.parquet: is there for the driver and not for the worker" in str(error)


def test_an_output_that_only_the_driver_has_is_told(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model lies in it, so that workers would else say that there is no bundle."""
    monkeypatch.chdir(tmp_path)
    told = str(cluster.fail(output={"uri": "/proc/self/cwd/out"}))
    assert "this worker sees nothing of what the driver wrote there, the model neither" in told
    assert "no bundle.json" not in told


@pytest.mark.parametrize("model", [{"onnx": "/nowhere/model.onnx", "inputs": {"X": ["f0"]}}, {"bundle": "/nowhere"}])
def test_a_model_that_is_nowhere_is_refused(cluster: Cluster, model: dict[str, Any]) -> None:
    """By its place, before anything is scored."""
    error = cluster.fail(model=model)
    assert isinstance(error, Refused)
    assert "/nowhere" in str(error)


def test_an_error_of_python_is_told_with_file_and_row(cluster: Cluster, tmp_path: Path) -> None:
    """A defect, here of a worker's own steps, comes back with the split's file and the row where its batch begins."""
    (tmp_path / "broken.py").write_text(BROKEN, encoding="utf-8")
    python = program(tmp_path / "python", f'#!/bin/sh\nexec {sys.executable} {tmp_path}/broken.py "$@"\n')
    error = cluster.fail(python)
    assert isinstance(error, TasksFailed)
    first, second, *_ = str(error).splitlines()
    assert first == "Spark gave up: ZeroDivisionError: a defect."
    assert re.fullmatch(
        rf"  {tmp_path}/in/part-[01]\.parquet, in the batch that begins at row 0, on \S+ \(executor driver\)", second
    )


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("executor", "an executor was killed, by its memory limit as it seems.\n  on "),
        ("worker", "died.\n  on "),
        ("disk", "a disk of a worker is full: OSError: [Errno 28]"),
    ],
)
def test_an_executor_or_a_worker_that_is_killed_is_told(how: str, told: str) -> None:
    """On a cluster with an executor of its own: by which signal, or error, it ended, and what would help."""
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, str(LOST), how], check=True, capture_output=True, text=True, env=environment)
    assert told in done.stdout
    assert "\tat " not in done.stdout


def test_a_doctor_is_told_why_no_worker_answers(cluster: Cluster, spark: SparkSession) -> None:
    """As a job would be."""
    cluster.context.pythonExec, before = "/nowhere/bin/python", cluster.context.pythonExec
    try:
        with pytest.raises(TasksFailed, match=r"no worker could be asked: a worker is to start /nowhere/bin/python"):
            probe_workers(spark, Asked(None, None), 1)
    finally:
        cluster.context.pythonExec = before


SAID = {
    "library missing": "ImportError: libgomp.so.1: cannot open shared object file: No such file or directory",
    "package too old": "pyspark.errors.PySparkImportError: [UNSUPPORTED_PACKAGE_VERSION] PyArrow >= 15.0.0 must be …",
    "memory of an executor": "ExecutorLostFailure (executor 1 exited caused by one of the running tasks) Reason: "
    "Container killed by YARN for exceeding physical memory limits. 2.1 GB of 2 GB physical memory used.",
    "executor lost": "ExecutorLostFailure (executor 7 exited unrelated to the running tasks) Reason: Executor "
    "heartbeat timed out after 130000 ms",
    "heap of an executor": "java.lang.OutOfMemoryError: Java heap space",
    "application removed": "Job aborted due to stage failure: Master removed our application: FAILED",
    "Sparks that differ": "java.io.InvalidClassException: org.apache.spark.rdd.RDD; local class incompatible: stream "
    "classdesc serialVersionUID = 1, local class serialVersionUID = 2",
    "no right to a store": "org.apache.hadoop.security.AccessControlException: Permission denied: user=a, access=WRITE",
    "driver's JVM gone": "Py4JNetworkError: Answer from Java side is empty",
    "service out of reach": "java.net.ConnectException: Call From h/10.0.0.1 to nn:8020 failed: "
    "java.net.ConnectException: Connection refused",
}
"""What clusters that are not here say, in the words of their makers."""


@pytest.mark.parametrize(("name", "text"), SAID.items())
def test_what_other_clusters_say_is_recognised(name: str, text: str) -> None:
    """Each by its own row, and not by that of another fault."""
    found = fault_of(text)
    assert found is not None
    assert found[0].name == name


def fail_to_clean_up_after(error: BaseException) -> None:
    """As `collect` does where Spark's JVM has gone."""
    try:
        raise error
    finally:
        raise ConnectionRefusedError(111, "Connection refused")


def ask(error: BaseException) -> None:
    """A call of Spark that ends so."""
    with asking():
        fail_to_clean_up_after(error)


def test_a_signal_is_one_whatever_fails_after_it() -> None:
    """One that was dealt with before Spark was asked makes no other failure a signal."""
    with pytest.raises(KeyboardInterrupt):
        ask(KeyboardInterrupt())
    try:
        ask(KeyboardInterrupt())
    except KeyboardInterrupt:
        with pytest.raises(Py4JNetworkError):
            ask(OSError("its own"))


def test_a_socket_to_a_jvm_that_is_gone_is_not_a_service_out_of_reach() -> None:
    """An error of Python's sockets in a driver is of no other peer than the JVM's."""
    with pytest.raises(Py4JNetworkError) as caught:
        ask(EOFError())
    found = fault_of(str(caught.value))
    assert found is not None
    assert found[0].told == "Spark itself ended under the driver"


def test_what_is_not_known_is_not_taken_for_a_fault() -> None:
    """An error of a model that speaks of codes and memory is told as it is, and so is a table of a strange name."""
    assert fault_of("[TABLE_OR_VIEW_NOT_FOUND] The table or view `403 Forbidden` cannot be found.") is None
    text = "Traceback (most recent call last):\nValueError: class 137 has no name; remember its code\n"
    assert fault_of(text) is None
    assert cause_of(text) == "ValueError: class 137 has no name; remember its code"
