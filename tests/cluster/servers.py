"""Clusters as processes of this machine: YARN on HDFS, and Spark's own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyspark

from tests.stores.servers import INSTALLED, free_port

if TYPE_CHECKING:
    from collections.abc import Generator

ROOT = Path(__file__).parents[2]
SPARK_HOME = Path(pyspark.__file__).parent
_START_SECONDS = 60


class Yarn(NamedTuple):
    """YARN with one node manager, on HDFS."""

    url: str
    """Of HDFS."""
    conf: Path
    """Where clients read what they need to know: HADOOP_CONF_DIR."""
    folder: Path
    """Where containers have their folders and logs."""

    def log_of(self, run_id: str) -> str:
        """All that containers whose standard output names a run have printed."""
        found = [path.read_text(encoding="utf-8") for path in self.folder.rglob("stdout")]
        return "\n".join(text for text in found if run_id in text)


@contextlib.contextmanager
def yarn(folder: Path) -> Generator[Yarn]:
    """YARN; it ends when its standard input does."""
    installed = INSTALLED / "yarn"
    jars = f"{installed}/classes:{installed}/jars/*"
    command = ["java", "-Xmx1g", "-cp", jars, "MiniYarn", str(folder), str(free_port())]
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        ready = next((line for line in process.stdout if line.startswith("READY ")), "")
        if not ready:
            message = f"YARN did not come up; its process ended with {process.wait()}"
            raise RuntimeError(message)
        yield Yarn(ready.split()[1], folder / "conf", folder)
        process.kill()


@contextlib.contextmanager
def standalone(folder: Path) -> Generator[str]:
    """A master of Spark and two workers with a core each; the master's URL."""
    port, page = free_port(), free_port()
    url = f"spark://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        master = ["--host", "127.0.0.1", "--port", str(port), "--webui-port", str(page)]
        stack.enter_context(_spark_class(folder / "master", "org.apache.spark.deploy.master.Master", *master))
        for name in ("one", "two"):
            resources = ["--cores", "1", "--memory", "1g", "--work-dir", str(folder / name), "--webui-port", "0"]
            worker = ["--host", "127.0.0.1", *resources, url]
            stack.enter_context(_spark_class(folder / name, "org.apache.spark.deploy.worker.Worker", *worker))
        _wait_for_workers(f"http://127.0.0.1:{page}/json/", 2)
        yield url


@contextlib.contextmanager
def _spark_class(folder: Path, *words: str) -> Generator[None]:
    folder.mkdir(parents=True)
    # What workers inherit must not be what makes a job work.
    bare = {name: os.environ[name] for name in ("PATH", "JAVA_HOME", "HOME", "TZ") if name in os.environ}
    environment = {**bare, "SPARK_HOME": str(SPARK_HOME), "SPARK_NO_DAEMONIZE": "1"}
    with (
        (folder / "log").open("w", encoding="utf-8") as log,
        subprocess.Popen(
            [str(SPARK_HOME / "bin" / "spark-class"), *words], cwd=folder, env=environment, stdout=log, stderr=log
        ) as process,
    ):
        yield
        process.terminate()


def _wait_for_workers(page: str, wanted: int) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(OSError), urllib.request.urlopen(page) as answer:  # noqa: S310  it is ours
            if answer.read().count(b'"ALIVE"') >= wanted + 1:
                return
        time.sleep(0.2)
    message = "the workers of Spark did not come up"
    raise RuntimeError(message)


def packed_environment(folder: Path, *words: str) -> str:
    """The Python of workers, as `batchscore pack` makes it; one that is there is taken. Its folder is named as by who
    stands in the checkout.
    """  # noqa: D205  one sentence
    command = [sys.executable, "-m", "jobs.main", "pack", "--to", str(folder.relative_to(ROOT)), *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    line = next(line for line in done.stdout.splitlines() if line.startswith("environment: "))
    found = line.removeprefix("environment: ")
    return found if "://" in found else str(ROOT / found)
