"""What a process has to score with, asked without scoring: the same questions to a driver and to each worker."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
import uuid
from typing import Literal, NamedTuple

from etl.errors import BatchscoreError
from etl.runs.storage import storage_for
from scoring.code import code_digest

__all__ = ["Asked", "Probe", "probe"]

_PACKAGES = ("pyarrow", "numpy", "pydantic", "onnxruntime", "onnxruntime-gpu", "pyspark", "pandas")
_SECONDS = 20
"""That nvidia-smi may take: a driver that is broken hangs."""


class Asked(NamedTuple):
    """What a process is asked."""

    reads: str | None
    """A file of the input, to look at; None where there is none."""
    writes: str | None
    """A folder in which a pending file is begun, and thrown away."""


class Probe(NamedTuple):
    """What a process has. Everything is plain: it comes back from workers as JSON."""

    host: str
    python: str
    """Version and place of the interpreter."""
    code: str
    """Digest of our packages."""
    place: str
    """Where they were imported from."""
    packages: dict[str, str]
    """Versions of what is installed."""
    providers: list[str]
    """Execution providers of onnxruntime, or why it cannot be imported, behind a `!`."""
    gpus: list[str]
    """As nvidia-smi names them; none where it does not run."""
    began: float
    """Seconds since the epoch, by this host's clock, when it was asked."""
    reads: str
    """`ok`, nothing where nothing was asked, or what went wrong."""
    writes: str
    """As `reads`."""


def probe(asked: Asked) -> Probe:
    """Look around. Nothing is raised: what goes wrong is an answer."""
    began = time.time()
    return Probe(
        host=socket.gethostname(),
        python=f"{platform.python_version()} {sys.executable}",
        code=code_digest(),
        place=str(importlib.resources.files("scoring")),
        packages=_versions(),
        providers=_providers(),
        gpus=_gpus(),
        began=began,
        reads=_tried("read", asked.reads),
        writes=_tried("write", asked.writes),
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _providers() -> list[str]:
    try:
        import onnxruntime  # noqa: PLC0415  it may not be installed, which is what is asked
    except Exception as error:  # noqa: BLE001  a wheel for another CUDA raises what it likes
        return [f"!{type(error).__name__}: {error}"]
    return list(onnxruntime.get_available_providers())


def _gpus() -> list[str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)  # noqa: S603  fixed
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _tried(what: Literal["read", "write"], uri: str | None) -> str:
    if uri is None:
        return ""
    try:
        storage, path = storage_for(uri)
        if what == "read":
            if storage.stat(path) is None:
                return f"{uri} is not there for this process"
            storage.open_input(path).read(1)
        else:
            writer = storage.begin(f"{path}/probe-{uuid.uuid4().hex}-{os.getpid()}")
            writer.write(b"probe")
            writer.abort()
    except (BatchscoreError, OSError) as error:
        return str(error) or type(error).__name__
    return "ok"
