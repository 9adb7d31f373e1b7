"""Clusters that are there for a session of tests, and a job to submit to them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.cluster import servers
from tests.cluster.servers import SPARK_HOME, Yarn

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TRIES = 400
"""Seconds that a job may take; alone on two cores it is one minute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All here are of the lane of clusters."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(TRIES + 200))


PACKED = ROOT / ".cache" / "packed"


@pytest.fixture(scope="session")
def environment() -> str:
    """The packed Python of workers."""
    return servers.packed_environment(PACKED)


@pytest.fixture(scope="session")
def yarn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yarn]:
    """YARN on HDFS, and its configuration in this process, too."""
    with servers.yarn(tmp_path_factory.mktemp("yarn")) as found, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HADOOP_CONF_DIR", str(found.conf))
        yield found


@pytest.fixture(scope="session")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Spark's own cluster: a master and two workers."""
    with servers.standalone(tmp_path_factory.mktemp("standalone")) as url:
        yield url


class Submitter(NamedTuple):
    """Calls spark-submit.sh from a folder in which a package `scoring` lies that is not ours."""

    folder: Path

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Begin, with these variables too."""
        decoy = self.folder / "scoring" / "__init__.py"
        decoy.parent.mkdir(exist_ok=True)
        decoy.write_text("raise SystemExit('a decoy was imported')\n", encoding="utf-8")
        kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "JAVA_HOME", "TZ"}}
        told = {"PYSPARK_PYTHON": sys.executable, "SPARK_HOME": str(SPARK_HOME)}
        conf = {"HADOOP_CONF_DIR": os.environ["HADOOP_CONF_DIR"]} if "HADOOP_CONF_DIR" in os.environ else {}
        return subprocess.Popen(
            [str(ROOT / "spark-submit.sh"), *words],
            cwd=self.folder,
            env={**kept, **told, **conf, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """To its end."""
        with self.start(*words, **variables) as process:
            out, err = process.communicate(timeout=TRIES)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def submitter(tmp_path: Path) -> Submitter:
    """From an empty folder of its own."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    return Submitter(folder)


@pytest.fixture(scope="session")
def on_yarn(yarn: Yarn) -> list[str]:
    """Options that send a job to YARN with a driver of its own, on a machine with little memory."""
    # YARN unpacks an archive once a node, for all jobs, where it lies in the store. Without Hadoop's native library it
    # starts a program for each file of it, which takes more than a minute.
    environment = servers.packed_environment(PACKED, "--upload", f"{yarn.url}/environments")
    memory = ("spark.executor.memory=512m", "spark.executor.memoryOverhead=512m", "spark.driver.memory=512m")
    # The jars of Spark lie on each node here, as distributions have them. Sent along they are 420 MB a job.
    settings = (*memory, "spark.executor.instances=1", f"spark.yarn.jars=local:{SPARK_HOME}/jars/*")
    options = ["--target", "yarn", "--deploy-mode", "cluster", "--environment", environment]
    return [*options, *(word for setting in settings for word in ("--conf", setting))]
