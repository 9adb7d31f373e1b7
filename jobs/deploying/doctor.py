"""Whether a job can run here and on its cluster, before it does: Python, Java, stores, devices, clocks."""

from __future__ import annotations

import importlib.util
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pyarrow import fs

from etl.errors import BatchscoreError
from etl.printable import counted
from etl.runs.storage import storage_for
from etl.runs.store_settings import configure
from etl.spark.sessions import parallelism
from jobs.planning.preview import Check
from jobs.planning.resolving import list_inputs
from jobs.session import start_session
from scoring.bundles.sources import is_of_mlflow, locate
from scoring.probing import Asked, executors_of, probe, worst_of
from scoring.runtimes.onnx.providers import PROVIDERS
from scoring.spark.probes import probe_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspark.sql import SparkSession

    from etl.runs.storage import Storage
    from jobs.config.job import JobConfig
    from scoring.probing import Probe

__all__ = ["Examined", "examine"]

_SKEW = 5.0
"""Seconds that clocks of two hosts may be apart: who is silent, and which try was the last, is told by them."""
_STORE_SKEW = 60.0
"""Seconds that the store's clock may be off the driver's. What is refused for it begins at five minutes."""
_ALIKE = ("pyarrow", "numpy", "onnxruntime", "onnxruntime-gpu")
"""Packages on whose versions scores depend."""


class Examined(NamedTuple):
    """What was looked at in one place."""

    place: str
    """`driver`, or a worker's host."""
    checks: list[Check]


def examine(config: JobConfig, *, cluster: bool) -> Iterator[Examined]:
    """Look at the driver, and then with `cluster` at every worker that Spark gives: a session is started for that."""
    configure(config.storage)
    reads, found = _input_of(config)
    asked = Asked(reads, f"{config.output.uri.rstrip('/')}/_batchscore/doctor")
    here = probe(asked)
    checks = [
        _python(here),
        _packages(here),
        _check("java", _java),
        _check("spark", lambda: _spark(here)),
        found,
        _check("model", lambda: _models(config)),
        *([_check("references", lambda: _references(config))] if config.references else []),
        _rights("output", here.writes),
        *_commits(config.output.uri),
    ]
    if config.metrics is not None and config.metrics.uri is not None:
        folder = f"{config.metrics.uri.rstrip('/')}/_batchscore/doctor"
        checks.append(_rights("metrics", probe(Asked(None, folder)).writes))
    if not cluster:  # workers score
        checks.append(_device(config, here))
    yield Examined("driver", checks)
    if cluster:
        yield from _workers(config, asked, here)


def _workers(config: JobConfig, asked: Asked, here: Probe) -> Iterator[Examined]:
    try:
        spark = start_session(f"batchscore doctor {config.name}", config.spark)
        start = time.time()
        tasks, workers = _asked(spark, asked)
    except (BatchscoreError, OSError) as error:
        yield Examined("cluster", [Check("tasks", "failed", str(error))])
        return
    end = time.time()
    yield Examined("cluster", [tasks])
    for worker in workers:
        checks = [
            _python(worker),
            _alike(here, worker),
            _same_spark(str(spark.version), worker),
            _rights("input", worker.reads) if asked.reads else Check("input", "unchecked", "no file is known"),
            _rights("output", worker.writes),
            _clock(worker, start, end),
            _device(config, worker),
        ]
        yield Examined(worker.host, checks)


def _asked(spark: SparkSession, asked: Asked) -> tuple[Check, list[Probe]]:
    """What workers say, and how many of them; those that were not there at first are asked a second time."""
    master, instances = str(spark.conf.get("spark.master", "")), spark.conf.get("spark.executor.instances", None)
    wanted = int(instances) if instances and instances.isdigit() and not master.startswith("local") else 0
    tasks = 0
    found: list[Probe] = []
    for _ in range(2):
        # Before executors have come Spark knows of no cores of theirs.
        tasks = max(parallelism(spark), wanted)
        found += probe_workers(spark, asked, tasks)
        if executors_of(found) >= wanted:
            break
    workers = worst_of(found)
    told = f"{tasks} at once, by {counted(len(workers), 'worker')}"
    if not wanted:
        return Check("tasks", "ok", told), workers
    told += f"; {executors_of(found)} of {counted(wanted, 'executor')} answered"
    if executors_of(found) >= wanted:
        return Check("tasks", "ok", told), workers
    told += ", asked twice. Of the others nothing is known: see whether the cluster gives them, and ask again"
    return Check("tasks", "unchecked", told), workers


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", look())
    except (BatchscoreError, OSError) as error:
        return Check(name, "failed", str(error))


def _input_of(config: JobConfig) -> tuple[str | None, Check]:
    """A file of the input, and whether it can be listed."""
    if not config.input.patterns:
        return None, Check("input", "unchecked", "it is a table, which Spark opens when a run begins")
    try:
        files = list_inputs(config.input.patterns)
    except (BatchscoreError, OSError) as error:
        return None, Check("input", "failed", str(error))
    told = f"{counted(len(files), 'file')}, {sum(file.bytes for file in files):,} bytes"
    return files[0].path, Check("input", "ok", told)


def _python(one: Probe) -> Check:
    version = one.python.split()[0]
    if not version.startswith("3.11."):
        told = f"{one.python}: the locks are for 3.11. Name another by PYSPARK_PYTHON, or ship one: batchscore pack."
        return Check("python", "failed", told)
    return Check("python", "ok", f"{one.python}, code {one.code} of {one.place}")


def _packages(one: Probe) -> Check:
    if {"onnxruntime", "onnxruntime-gpu"} <= one.packages.keys():
        told = (
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: uninstall both, install one"
        )
        return Check("packages", "failed", told)
    return Check("packages", "ok", ", ".join(f"{name} {version}" for name, version in one.packages.items()))


def _alike(here: Probe, there: Probe) -> Check:
    """Driver and workers have the same code and versions, or scores would depend on where a row was."""
    if here.code != there.code:
        told = f"the worker runs {there.code} of {there.place}, the driver {here.code}: submit by spark-submit.sh"
        return Check("packages", "failed", told)
    differing = [
        f"{name} {there.packages.get(name, 'is missing')}, the driver has {here.packages.get(name, 'none')}"
        for name in _ALIKE
        if here.packages.get(name) != there.packages.get(name)
    ]
    if differing:
        return Check("packages", "failed", "; ".join(differing))
    return Check("packages", "ok", "code and packages are the driver's")


def _java() -> str:
    """Spark's own rule: JAVA_HOME, then PATH."""
    script = Path(__file__).parents[2] / "requirements" / "check-java.sh"
    if not script.exists():
        return "not looked at: Spark has started it where the code came in a zip"
    done = subprocess.run([script], check=False, capture_output=True, text=True)  # noqa: S603  ours
    if done.returncode:
        raise OSError(done.stderr.strip().splitlines()[0])
    return "17 or newer"


def _rights(name: str, answer: str) -> Check:
    told = "a file of it can be read" if name == "input" else "a pending file can be begun, and thrown away"
    return Check(name, "ok", told) if answer == "ok" else Check(name, "failed", answer)


def _spark(here: Probe) -> str:
    version = here.packages.get("pyspark")
    if version is None and importlib.util.find_spec("pyspark") is None:
        message = "no pyspark is here. Install batchscore[spark], or submit by spark-submit.sh with SPARK_HOME."
        raise OSError(message)
    return f"pyspark {version or 'of SPARK_HOME'}"


def _same_spark(version: str, worker: Probe) -> Check:
    there = worker.packages.get("pyspark", "none")
    if there != version:
        told = (
            f"the worker has pyspark {there}, the driver's Spark is {version}: set SPARK_HOME to the cluster's release"
        )
        return Check("spark", "failed", told)
    return Check("spark", "ok", f"{version}, as the driver's")


def _models(config: JobConfig) -> str:
    """Models of a registry are resolved by a run, and not here."""
    told = []
    for entry in config.entries:
        uri = entry.model.bundle or entry.model.onnx or ""
        if is_of_mlflow(uri):
            told.append(f"{uri} is MLflow's, which a run asks")
            continue
        source = locate(uri)
        if not source.is_bundle and source.storage.stat(source.path) is None:
            message = (
                f"{uri}: no model is there for this process. Mend its name, or put it where the driver can read it."
            )
            raise OSError(message)
        told.append(f"{uri} is there")
    return ", ".join(told)


def _references(config: JobConfig) -> str:
    for uri in config.references.values():
        list_inputs((uri,))
    return f"{counted(len(config.references), 'table')} can be listed"


def _commits(uri: str) -> list[Check]:
    """What publication and receipts stand on, a name that is created once; and the store's clock, by that name."""
    found: list[Check] = []
    commits = _check("commits", lambda: _prove(uri, found))
    return [commits, *found]


def _prove(uri: str, found: list[Check]) -> str:
    storage, root = storage_for(uri)
    path = f"{root}/_batchscore/doctor/{uuid.uuid4().hex}.json"
    start = time.time()
    try:
        if not storage.create_if_absent(path, b"{}") or storage.create_if_absent(path, b"[]"):
            message = f"{uri}: a name that is taken can be created again. Use a store with conditional writes."
            raise OSError(message)
        if storage.read_bytes(path) != b"{}":
            message = f"{uri}: what was written is not what is read."
            raise OSError(message)
        found.append(_clock_of_store(storage, path, start))
    finally:
        storage.delete(path)
    return "a name is created once, read back, and removed"


def _clock_of_store(storage: Storage, path: str, start: float) -> Check:
    """By when it says that a file was written, which was between `start` and now; some tell whole seconds only."""
    files, [inside] = storage.arrow_paths([path])
    written = (files or fs.LocalFileSystem()).get_file_info(inside).mtime
    if written is None:
        return Check("clock", "unchecked", "the store does not say when a file was written")
    skew = max(start - 1 - written.timestamp(), written.timestamp() - time.time(), 0.0)
    if skew > _STORE_SKEW:
        told = (
            f"the store's is {skew:,.0f} s off this host's: let NTP set this one. S3 refuses what is signed 15 "
            "minutes off, Kerberos 5"
        )
        return Check("clock", "failed", told)
    return Check("clock", "ok", f"within {_STORE_SKEW:g} s of the store's")


def _clock(worker: Probe, start: float, end: float) -> Check:
    """Its answer was made between two looks at our clock."""
    skew = max(start - worker.began, worker.began - end, 0.0)
    if skew > _SKEW:
        return Check("clock", "failed", f"it is {skew:,.1f} s off the driver's: let NTP set both")
    return Check("clock", "ok", f"within {_SKEW:g} s of the driver's, as far as the question can tell")


def _device(config: JobConfig, one: Probe) -> Check:
    wanted = config.scoring.device
    broken = [provider[1:] for provider in one.providers if provider.startswith("!")]
    if broken:
        return Check("device", "failed", f"onnxruntime cannot be imported: {broken[0]}")
    found = f"{', '.join(one.providers)}; {', '.join(one.gpus) or 'no GPU is seen'}"
    if wanted in PROVIDERS and wanted != "cpu":
        if PROVIDERS[wanted] not in one.providers:
            return Check("device", "failed", f"{wanted} is asked for, and there is {found}. Install onnxruntime-gpu.")
        if not one.gpus:
            return Check("device", "failed", f"{wanted} is asked for, and this process sees no GPU")
    return Check("device", "ok", found)
