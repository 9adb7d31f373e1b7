"""What a process has to score with, asked without scoring: the same questions to a driver and to each worker."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import os
import platform
import socket
import sys
import time
import uuid
from typing import TYPE_CHECKING, Literal, NamedTuple

from etl.errors import BatchscoreError
from etl.runs.storage import storage_for
from scoring.code import CODE, code_digest
from scoring.runtimes.gpu import gpu_facts

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Asked", "Probe", "executors_of", "probe", "worst_of"]

_PACKAGES = ("pyarrow", "numpy", "pydantic", "onnxruntime", "onnxruntime-gpu", "pyspark", "pandas")


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
    """By name, as the driver tells them; none where there is no driver."""
    began: float
    """Seconds since the epoch, by this host's clock, when it was asked."""
    reads: str
    """`ok`, nothing where nothing was asked, or what went wrong."""
    writes: str
    """As `reads`."""
    parent: int
    """The process that began this one: a host has one for each executor."""


def probe(asked: Asked) -> Probe:
    """Look around. Nothing is raised: what goes wrong is an answer."""
    began = time.time()
    return Probe(
        host=socket.gethostname(),
        python=f"{platform.python_version()} {sys.executable}",
        code=code_digest(*CODE),
        place=str(importlib.resources.files("scoring")),
        packages=_versions(),
        providers=_providers(),
        gpus=_gpus(),
        began=began,
        reads=_tried("read", asked.reads),
        writes=_tried("write", asked.writes),
        parent=os.getppid(),
    )


def executors_of(probes: Iterable[Probe]) -> int:
    """How many executors answered."""
    return len({(one.host, one.parent) for one in probes})


def worst_of(probes: Iterable[Probe]) -> list[Probe]:
    """One answer a host, interpreter and place of our code, by host: the fault that one of them has, it has."""
    found: dict[tuple[str, str, str], Probe] = {}
    for one in probes:
        other = found.setdefault((one.host, one.python, one.place), one)
        found[one.host, one.python, one.place] = other._replace(
            reads=one.reads if other.reads == "ok" else other.reads,
            writes=one.writes if other.writes == "ok" else other.writes,
            providers=min(
                one.providers, other.providers, key=lambda some: (not "".join(some).startswith("!"), len(some))
            ),
            gpus=min(one.gpus, other.gpus, key=len),
        )
    return [found[key] for key in sorted(found)]


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    loaded = sys.modules.get("pyspark")
    if loaded is not None:  # on a cluster it is Spark's own, which is not installed
        found["pyspark"] = str(loaded.__version__)
    return found


def _providers() -> list[str]:
    try:
        from scoring.runtimes.onnx.providers import available_providers  # noqa: PLC0415  whether it loads is the question
    except Exception as error:  # noqa: BLE001  a wheel for another CUDA raises what it likes
        return [f"!{type(error).__name__}: {error}"]
    return available_providers()


def _gpus() -> list[str]:
    """Those that this process sees, in CUDA's order."""
    found: list[str] = []
    while (gpu := gpu_facts(len(found))) is not None:
        found.append(gpu.name)
    return found


def _tried(what: Literal["read", "write"], uri: str | None) -> str:
    if uri is None:
        return ""
    try:
        storage, path = storage_for(uri)
        if what == "read":
            if storage.stat(path) is None:
                return f"{uri} is not there for this process"
            with storage.open_input(path) as file:
                file.read(1)
        else:
            writer = storage.begin(f"{path}/probe-{uuid.uuid4().hex}-{os.getpid()}")
            writer.write(b"probe")
            writer.abort()
    except (BatchscoreError, OSError) as error:
        return str(error) or type(error).__name__
    return "ok"
