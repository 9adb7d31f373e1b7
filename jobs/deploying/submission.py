"""What is to be submitted, to what, and the Spark settings that follow from it on every target."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, NamedTuple

from jobs.deploying.slots import slots_for
from jobs.errors import Refused
from scoring.bundles.sources import is_of_mlflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from jobs.config.job import JobConfig

__all__ = [
    "DRIVERS",
    "ENVIRONMENT",
    "GPU_SCRIPT",
    "Driver",
    "Files",
    "Places",
    "Resources",
    "Submission",
    "Target",
    "local_places",
    "places_of",
    "profile_of",
    "python_of",
    "settings_of",
    "ships_gpu_script",
]

ENVIRONMENT = "./environment/bin/python"
"""The packed Python, where a cluster unpacks its archive."""
GPU_SCRIPT = "gpus.sh"
"""Tells an executor the addresses of its GPUs; Spark starts it."""


class Target(StrEnum):
    """What runs the job."""

    STANDALONE = "standalone"
    YARN = "yarn"
    K8S = "k8s"
    EMR = "emr"
    EMR_SERVERLESS = "emr-serverless"
    DATAPROC = "dataproc"
    DATAPROC_SERVERLESS = "dataproc-serverless"

    @property
    def is_cloud(self) -> bool:
        """Whether a service takes the job, so that all of it has to lie in a store."""
        return self not in {Target.STANDALONE, Target.YARN, Target.K8S}

    @property
    def is_yarn(self) -> bool:
        """Whether YARN starts the containers."""
        return self in {Target.YARN, Target.EMR, Target.DATAPROC}


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a service finds what it needs, and as whom."""

    stage: str | None = None
    """The folder of a store that gets code, config and scripts."""
    cluster: str | None = None
    """An EMR cluster's id, or a Dataproc cluster's name."""
    application: str | None = None
    """An EMR Serverless application's id."""
    role: str | None = None
    """ARN of the role, or the service account, that the job runs as."""
    region: str | None = None
    image: str | None = None
    """A container image, of Kubernetes or Dataproc Serverless."""
    namespace: str | None = None
    """Of Kubernetes."""


class Driver(NamedTuple):
    """Where the driver runs."""

    deploy_mode: str
    """`client`: here; `cluster`: there."""
    master: str | None
    """Spark's own name of the target, where the target does not say it."""


class Files(NamedTuple):
    """What lies on this machine, or, of the environment, in a store."""

    config: str
    """The job's YAML file."""
    code: str
    """The zip of our packages."""
    home: Path
    """The folder in which jobs/main.py and conf/ are."""
    environment: str | None
    """The archive of `batchscore pack`."""

    @property
    def main(self) -> str:
        """What Spark starts."""
        return str(self.home / "jobs" / "main.py")

    @property
    def gpu_script(self) -> str:
        """What tells an executor its GPUs."""
        return str(self.home / "conf" / "spark" / GPU_SCRIPT)


class Resources(NamedTuple):
    """What executors get."""

    gpus: int = 0
    """Of one executor."""
    settings: tuple[str, ...] = ()
    """The caller's own, KEY=VALUE; they win."""
    profiles: tuple[str, ...] = ()
    """Names of files in conf/spark/profiles; later ones win."""


@dataclass(frozen=True)
class Submission:
    """One job for one target."""

    target: Target
    driver: Driver
    run_id: str
    job_options: tuple[str, ...]
    """Words for the job, behind its config."""
    files: Files
    resources: Resources
    places: Places
    verb: Literal["run", "doctor"] = "run"
    """What the job is told to do."""
    where: str = ""
    """By what other commands find the run: the config's file, or the URI of its output."""

    @property
    def name(self) -> str:
        """What the cluster shows."""
        return f"batchscore {self.run_id}"

    @property
    def is_remote(self) -> bool:
        """Whether the driver runs on the cluster, where the folders of this machine are not."""
        return self.driver.deploy_mode == "cluster"

    @property
    def shipped_config(self) -> str:
        """The config's name in the working folder of a remote driver."""
        return PurePosixPath(self.files.config).name

    @property
    def job(self) -> tuple[str, ...]:
        """The words behind jobs/main.py."""
        config = self.shipped_config if self.is_remote else self.files.config
        asked = ("run", config, "--run-id", self.run_id) if self.verb == "run" else ("doctor", config, "--cluster")
        return (*asked, *self.job_options)


def places_of(given: Sequence[str]) -> Places:
    """Places as KEY=VALUE.

    Raises:
        Refused: there is no such place.
    """
    known = [field.name for field in fields(Places)]
    pairs = dict(text.split("=", 1) for text in given)
    unknown = sorted(pairs.keys() - known)
    if unknown:
        raise Refused(f"there is no place {unknown[0]!r}. There are: {', '.join(known)}.")
    return Places(**pairs)


def profile_of(folder: Path, name: str) -> tuple[str, ...]:
    """Settings of a profile: lines of `key value`, and remarks behind #.

    Raises:
        Refused: there is no such profile.
    """
    path = folder / f"{name}.conf"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.conf")))
        raise Refused(f"there is no profile {name!r} in {folder}. There are: {known}.")
    lines = (line.partition("#")[0].split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())
    return tuple(f"{words[0]}={words[1].strip()}" for words in lines if len(words) > 1)


def local_places(job: JobConfig) -> list[tuple[str, str]]:
    """What a config names by a relative path, with its JSON pointer."""
    return [
        (pointer, uri)
        for pointer, uri in _places_of(job)
        if "://" not in uri and not uri.startswith("/") and not is_of_mlflow(uri)
    ]


def _places_of(job: JobConfig) -> Iterator[tuple[str, str]]:
    for number, pattern in enumerate(job.input.patterns):
        yield f"/input/files/{number}", pattern
    for name, uri in job.references.items():
        yield f"/references/{name}", uri
    for number, entry in enumerate(job.entries):
        kind = "bundle" if entry.model.bundle is not None else "onnx"
        uri = entry.model.bundle or entry.model.onnx or ""
        yield f"/model/{kind}" if job.model is not None else f"/models/{number}/{kind}", uri
    yield "/output/uri", job.output.uri
    if job.metrics is not None and job.metrics.uri is not None:
        yield "/metrics/uri", job.metrics.uri


def settings_of(asked: Submission) -> list[str]:
    """All Spark settings, KEY=VALUE, in the order in which later ones win.

    Raises:
        Refused: the target has no GPUs, executors have too few cores for theirs, or there is no such profile.
    """
    quiet = [] if asked.is_remote else ["spark.ui.showConsoleProgress=false"]  # it would write across ours
    folder = asked.files.home / "conf" / "spark" / "profiles"
    profiles = [setting for name in asked.resources.profiles for setting in profile_of(folder, name)]
    own = asked.resources.settings
    cores = _CORES.get(asked.target, 1)
    slots = slots_for(asked.resources.gpus, given=profiles, own=own, cores=cores)
    return [*quiet, *_python_of(asked), *_target_of(asked), *_gpus_of(asked), *profiles, *slots, *own]


_CORES = {Target.STANDALONE: None, Target.DATAPROC_SERVERLESS: 4}
"""Cores of an executor where no setting says it, None for all of its machine; elsewhere Spark gives it one."""

_WORKERS_PYTHON = "spark.executorEnv.PYSPARK_PYTHON"

DRIVERS: dict[Target, tuple[str, ...]] = {
    Target.YARN: ("spark.yarn.appMasterEnv",),
    Target.EMR: ("spark.yarn.appMasterEnv",),
    Target.DATAPROC: ("spark.yarn.appMasterEnv",),
    Target.EMR_SERVERLESS: ("spark.emr-serverless.driverEnv", "spark.emr-serverless.executorEnv"),
    Target.DATAPROC_SERVERLESS: ("spark.dataproc.driverEnv",),
}
"""Prefixes of the environment of a remote driver; EMR Serverless has one of its own for executors, too."""


def python_of(asked: Submission) -> str | None:
    """What workers start: the packed one, else one that is on all hosts; None where only the service can know one."""
    if asked.files.environment:
        return ENVIRONMENT
    named = [text.partition("=")[2] for text in asked.resources.settings if text.startswith(f"{_WORKERS_PYTHON}=")]
    if named or asked.target.is_cloud:
        return named[-1] if named else None
    return os.environ.get("PYSPARK_PYTHON", sys.executable)


def _python_of(asked: Submission) -> list[str]:
    """The same Python for all; a stray scoring/ in a working folder must not be taken for ours."""
    python = python_of(asked)
    if python is None:  # that of the image
        return ["spark.executorEnv.PYTHONSAFEPATH=1", *(f"{at}.PYTHONSAFEPATH=1" for at in DRIVERS[asked.target])]
    environment = {"PYSPARK_PYTHON": python, "PYTHONSAFEPATH": "1"}
    found = [f"spark.executorEnv.{name}={value}" for name, value in environment.items()]
    if asked.target is Target.K8S and asked.is_remote:
        # Spark would give the driver's pod the Pythons of this machine's environment beside those of driverEnv.
        found += [f"spark.pyspark.python={python}", f"spark.pyspark.driver.python={python}"]
        found += ["spark.kubernetes.driverEnv.PYTHONSAFEPATH=1"]
    for prefix in DRIVERS.get(asked.target, ()) if asked.is_remote else ():
        told = {**environment, "PYSPARK_DRIVER_PYTHON": python}
        found += [f"{prefix}.{name}={value}" for name, value in told.items()]
    return found


def _target_of(asked: Submission) -> list[str]:
    """What a target wants for every job."""
    if asked.target.is_yarn:
        # A second application master would be a second driver. Who submits decides on that, with the same run id.
        return ["spark.yarn.maxAppAttempts=1"]
    if asked.target is Target.K8S:
        image = [f"spark.kubernetes.container.image={asked.places.image}"] if asked.places.image else []
        namespace = [f"spark.kubernetes.namespace={asked.places.namespace}"] if asked.places.namespace else []
        # Spark itself puts there what a driver in a pod needs of this machine: code, config and what it starts.
        upload = [f"spark.kubernetes.file.upload.path={asked.places.stage}"] if asked.is_remote else []
        return [*image, *namespace, *upload, "spark.kubernetes.submission.waitAppCompletion=true"]
    return []


def _gpus_of(asked: Submission) -> list[str]:
    """GPUs of an executor, one task on each: on an H200 four tasks that shared one were no faster."""
    if not asked.resources.gpus:
        return []
    if asked.target is Target.EMR_SERVERLESS:
        raise Refused("EMR Serverless has no GPUs. Use emr, or leave --gpus out.")
    amount = [f"spark.executor.resource.gpu.amount={asked.resources.gpus}", "spark.task.resource.gpu.amount=1"]
    if asked.target is Target.DATAPROC_SERVERLESS:
        # Only its premium tier has them.
        return [
            *amount,
            "spark.dataproc.executor.resource.accelerator.type=l4",
            "spark.dataproc.executor.compute.tier=premium",
        ]
    if asked.target is Target.K8S:
        script = f"/opt/batchscore/{GPU_SCRIPT}"
        return [
            *amount,
            "spark.executor.resource.gpu.vendor=nvidia.com",
            f"spark.executor.resource.gpu.discoveryScript={script}",
        ]
    found = [*amount, f"spark.executor.resource.gpu.discoveryScript=./{GPU_SCRIPT}"]
    # The images of Dataproc turn on a plugin that takes nearly all of a GPU's memory for itself.
    return [*found, "spark.plugins="] if asked.target is Target.DATAPROC else found


def ships_gpu_script(asked: Submission) -> bool:
    """Whether executors are sent the script that tells their GPUs: images of containers hold it."""
    return bool(asked.resources.gpus) and (asked.target.is_yarn or asked.target is Target.STANDALONE)
