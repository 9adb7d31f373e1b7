"""What is HDFS's own: name services that `HADOOP_CONF_DIR` describes, one of whose name nodes is down."""

from __future__ import annotations

import os
import signal
import uuid
from typing import TYPE_CHECKING

import psutil
import pyarrow.dataset as ds
import pytest

from etl.runs.storage import storage_for
from tests.stores.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.stores


@pytest.fixture
def name_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write Hadoop's configuration of a name service with these name nodes, which is the default one, too; its name."""

    def write(*nodes: str) -> str:
        name = f"service-{uuid.uuid4().hex[:8]}"
        numbered = {f"nn{number}": node for number, node in enumerate(nodes)}
        provider = "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider"
        files = {
            "core-site.xml": {"fs.defaultFS": f"hdfs://{name}"},
            "hdfs-site.xml": {
                "dfs.nameservices": name,
                "dfs.client.failover.max.attempts": "3",
                f"dfs.ha.namenodes.{name}": ",".join(numbered),
                f"dfs.client.failover.proxy.provider.{name}": provider,
                **{f"dfs.namenode.rpc-address.{name}.{key}": node for key, node in numbered.items()},
            },
        }
        for file, said in files.items():
            lines = [f"<property><name>{key}</name><value>{value}</value></property>" for key, value in said.items()]
            (tmp_path / file).write_text("\n".join(("<configuration>", *lines, "</configuration>")))
        monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
        return name

    return write


@pytest.mark.parametrize("step", [1, -1])
def test_a_name_service_with_a_dead_name_node_is_a_store(
    hdfs_url: str, name_service: Callable[..., str], step: int
) -> None:
    """Whichever of two name nodes is down, a name service takes files, commits once, and gives them back to Arrow."""
    nodes = [f"127.0.0.1:{free_port()}", hdfs_url.removeprefix("hdfs://")]
    name = name_service(*nodes[::step])
    storage, root = storage_for(f"hdfs://{name}/{uuid.uuid4().hex}")
    assert root.startswith(f"hdfs://{name}/")
    assert [storage.create_if_absent(f"{root}/commit", data) for data in (b"mine", b"another's")] == [True, False]
    writer = storage.begin(f"{root}/out/part")
    writer.write(b"bytes")
    storage.complete(writer.finish())
    [file] = storage.list_files(f"{root}/out/*")
    assert file.path == f"{root}/out/part"
    filesystem, [inside] = storage.arrow_paths([file.path])
    assert filesystem is not None
    with filesystem.open_input_file(inside) as source:
        assert source.read() == b"bytes"
    direct, same = storage_for(f"{hdfs_url}{inside}")
    assert direct.read_bytes(same) == b"bytes"


def test_the_default_name_service_is_the_one_of_the_configuration(
    hdfs_url: str, name_service: Callable[..., str]
) -> None:
    """A path without a name service lies in that of `fs.defaultFS`, and is found there by the full name."""
    name = name_service(f"127.0.0.1:{free_port()}", hdfs_url.removeprefix("hdfs://"))
    folder = uuid.uuid4().hex
    storage, root = storage_for(f"hdfs:///{folder}")
    storage.create_if_absent(f"{root}/a", b"bytes")
    for full in (f"hdfs://{name}", hdfs_url):
        other, same = storage_for(f"{full}/{folder}/a")
        assert other.read_bytes(same) == b"bytes"


def test_a_name_service_that_is_down_is_no_refusal(name_service: Callable[..., str]) -> None:
    """Where no name node answers that is an OSError, which Spark tries again, with the place."""
    name = name_service(*(f"127.0.0.1:{free_port()}" for _ in range(2)))
    storage, root = storage_for(f"hdfs://{name}/x")
    with pytest.raises(ConnectionError, match=rf"hdfs://{name}/x/a"):
        storage.create_if_absent(f"{root}/a", b"")


def test_who_read_a_dataset_can_fork(hdfs_url: str) -> None:
    """A process that read HDFS as a dataset forks a child that lives, as those do that start a JVM or a worker."""
    storage, folder = storage_for(f"{hdfs_url}/{uuid.uuid4().hex}")
    storage.replace(f"{folder}/a.csv", b"x\n1\n")
    files, paths = storage.arrow_paths([f"{folder}/a.csv"])
    assert ds.dataset(paths, format="csv", filesystem=files).to_table().to_pydict() == {"x": [1]}
    del files
    child = os.fork()
    if child == 0:
        os._exit(0)
    try:
        psutil.Process(child).wait(timeout=30)
    except psutil.TimeoutExpired:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child of a fork waits for threads that only its parent has")
