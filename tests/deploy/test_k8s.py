"""The image and the manifest of Kubernetes: what they say is what the Spark operator takes, and what we submit."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml
from kubeflow_spark_api.models.spark_v1beta2_spark_application import SparkV1beta2SparkApplication
from pydantic import ValidationError

from etl.code import digest_of_packages
from jobs.errors import ExitCode
from tests.deploy.dry_run import DATE, ROOT, RUN, printed, settings_in, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

K8S = ROOT / "conf" / "k8s"
IMAGE = "REGISTRY/batchscore:0.1.0"
PYTHON = "/opt/batchscore/env/bin/python"
COMMAND = [
    *("conf/nightly.yaml", "--logical-date", DATE, "--target", "k8s", "--master", "k8s://https://HOST:6443"),
    *("--image", IMAGE, "--namespace", "scoring", "--profile", "cpu"),
]


def manifest() -> dict[str, Any]:
    """The manifest as a document."""
    told: dict[str, Any] = yaml.safe_load((K8S / "nightly.yaml").read_text(encoding="utf-8"))
    return told


def as_the_operator_reads(told: dict[str, Any]) -> dict[str, Any]:
    """A resource through the operator's own models, which leave out what they do not know."""
    read = SparkV1beta2SparkApplication.from_dict(told)
    assert read is not None
    found: dict[str, Any] = read.to_dict()
    return found


def test_the_manifest_is_one_of_the_operator() -> None:
    """Each key is known to its models, at its place and of its type: nothing is lost on the way through them."""
    assert as_the_operator_reads(manifest()) == manifest()


def test_a_wrong_manifest_is_found_out() -> None:
    """The oracle loses a key that there is not, and refuses a wrong type and what is missing."""
    told = manifest()
    told["spec"]["driver"]["core"] = 1
    assert as_the_operator_reads(told) != told
    wrong, short = manifest(), manifest()
    wrong["spec"]["sparkConf"]["spark.task.maxFailures"] = 4
    del short["spec"]["mainApplicationFile"]
    for one in (wrong, short):
        with pytest.raises(ValidationError):
            as_the_operator_reads(one)


def test_the_manifest_runs_what_a_submission_runs() -> None:
    """The same settings, in Spark's words or the operator's, the same image and the same run."""
    told = manifest()
    spec, driver, executor = told["spec"], told["spec"]["driver"], told["spec"]["executor"]
    sizes = {
        "spark.driver.cores": str(driver["cores"]),
        "spark.driver.memory": driver["memory"],
        "spark.executor.instances": str(executor["instances"]),
        "spark.executor.cores": str(executor["cores"]),
        "spark.executor.memory": executor["memory"],
        "spark.executor.memoryOverhead": executor["memoryOverhead"],
        "spark.kubernetes.authenticate.driver.serviceAccountName": driver["serviceAccount"],
    }
    asked = [word for name, value in sizes.items() for word in ("--conf", f"{name}={value}")]
    words = words_of(*COMMAND, "--deploy-mode", "cluster", "--stage", "s3a://BUCKET/batchscore", *asked)
    settings = settings_in(words)
    # Nothing is uploaded, and the operator itself waits.
    del settings["spark.kubernetes.file.upload.path"], settings["spark.kubernetes.submission.waitAppCompletion"]
    assert settings.pop("spark.kubernetes.container.image") == spec["image"]
    assert settings.pop("spark.kubernetes.namespace") == told["metadata"]["namespace"]
    assert settings == {**spec["sparkConf"], **sizes}
    job = words[words.index("run") :]
    [mount] = driver["configMaps"]
    assert spec["arguments"] == ["run", f"{mount['path']}/{job[1]}", *job[2:]]
    assert job[job.index("--run-id") + 1] == told["metadata"]["name"] == RUN


def test_a_pod_runs_the_python_of_its_image() -> None:
    """In both modes, and the driver that runs here that of this machine; a name in the environment wins."""
    remote = settings_in(words_of(*COMMAND, "--deploy-mode", "cluster", "--stage", "s3a://b/s"))
    assert {value for name, value in remote.items() if name.lower().endswith("python")} == {PYTHON}
    here = printed(*COMMAND).stdout
    assert f"PYSPARK_PYTHON={PYTHON} \\\n" in here
    assert re.search(r"^PYSPARK_DRIVER_PYTHON=.*/python[\d.]* \\$", here, re.MULTILINE)
    assert f"PYSPARK_DRIVER_PYTHON={PYTHON}" not in here
    assert f"spark.executorEnv.PYSPARK_PYTHON={PYTHON}" in here


class Instruction(NamedTuple):
    """One of a Dockerfile."""

    name: str
    words: list[str]


def stages() -> list[list[Instruction]]:
    """The instructions of the Dockerfile, from each FROM to the next; those before the first are left out."""
    text = re.sub(r"^#.*\n", "", (K8S / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: list[list[Instruction]] = []
    for line in filter(None, text.replace("\\\n", " ").splitlines()):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append(Instruction(name, shlex.split(rest)))
    return found


def test_the_image_is_of_the_spark_that_is_locked_and_runs_as_nobody_special() -> None:
    """Base image, manifest and lock name one Spark; the last user of the image is Spark's, by its number."""
    [pinned] = re.findall(r"^pyspark==(\S+)$", (ROOT / "requirements/constraints.in").read_text(), re.MULTILINE)
    [base] = re.findall(r"^ARG SPARK=apache/spark:([\d.]+)-", (K8S / "Dockerfile").read_text(), re.MULTILINE)
    assert base == pinned == manifest()["spec"]["sparkVersion"]
    assert [one.words for one in stages()[-1] if one.name == "USER"] == [["185"]]
    variables = dict(word.split("=", 1) for one in stages()[-1] if one.name == "ENV" for word in one.words)
    assert variables["PYSPARK_PYTHON"] == variables["PYSPARK_DRIVER_PYTHON"] == PYTHON


def test_what_the_image_copies_is_there_and_let_through() -> None:
    """Each source of a COPY is in the repository, and Docker's ignore file lets exactly these through."""
    copied = {
        word.replace("${LOCK}", "requirements/cluster.txt")
        for stage in stages()
        for one in stage
        if one.name == "COPY" and not one.words[0].startswith("--from")
        for word in one.words[:-1]
    }
    assert all((ROOT / name).exists() for name in copied)
    ignored = (K8S / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


def test_the_code_in_the_image_is_whole(tmp_path: Path) -> None:
    """Laid out as the image has it, and with its variables, the program starts, and is the code that is here."""
    for one in stages()[-1]:
        if one.name == "COPY" and not one.words[0].startswith("--from"):
            source, target = one.words
            copy = tmp_path / target.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (ROOT / source).is_dir() else shutil.copy2)(ROOT / source, copy)
    home = tmp_path / "opt" / "batchscore"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(home), "PYTHONSAFEPATH": "1"}
    main = subprocess.run(
        [sys.executable, str(home / "jobs" / "main.py"), "--help"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert main.returncode == 0, main.stderr
    packages = ("etl", "scoring", "jobs")
    code = f"import etl.code; print(etl.code.__file__, etl.code.digest_of_packages{packages})"
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert told.stdout.split() == [str(home / "etl" / "code.py"), digest_of_packages(*packages)]
    assert os.access(home / "gpus.sh", os.X_OK)


class Api(ThreadingHTTPServer):
    """Answers like the API of Kubernetes where everything that is created is there at once, and keeps the pod."""

    pod: dict[str, Any] | None = None
    properties = ""


class Answer(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Api

    def answer(self) -> None:
        """Give back what was sent, as the API does."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        told: dict[str, Any] = json.loads(body) if body else {"kind": "PodList", "apiVersion": "v1", "items": []}
        if told["kind"] == "Pod":
            told["metadata"]["uid"] = "1"
            self.server.pod = told
        if told["kind"] == "ConfigMap":
            self.server.properties = told["data"]["spark.properties"]
        data = json.dumps(told).encode()
        self.send_response(201 if self.command == "POST" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = answer  # noqa: N815  http.server calls them so

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def api() -> Iterator[Api]:
    """The API of a cluster that runs nothing."""
    with Api(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.servers
def test_spark_asks_for_the_pod_that_we_mean(api: Api, tmp_path: Path) -> None:
    """Spark's own submission makes a driver pod of our image with its Python, and uploads code and config."""
    told = yaml.safe_load((ROOT / "conf" / "nightly.yaml").read_text(encoding="utf-8"))
    told["output"]["uri"] = str(tmp_path / "out")
    config, stage = tmp_path / "nightly.yaml", tmp_path / "stage"
    config.write_text(yaml.safe_dump(told), encoding="utf-8")
    stage.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "JAVA_HOME", "TZ"}}
    options = [*COMMAND[1:], "--deploy-mode", "cluster", "--stage", f"file://{stage}", "--gpus", "1"]
    options[options.index("k8s://https://HOST:6443")] = f"k8s://http://127.0.0.1:{api.server_port}"
    # Nothing runs here, so there is nothing to wait for.
    options += ["--conf", "spark.kubernetes.submission.waitAppCompletion=false"]
    done = subprocess.run(
        [str(ROOT / "spark-submit.sh"), str(config), *options], check=False, capture_output=True, text=True, env=kept
    )
    assert done.returncode == ExitCode.UNKNOWN, done.stderr
    assert api.pod is not None, done.stderr
    [container] = api.pod["spec"]["containers"]
    assert container["image"] == IMAGE
    assert container["args"][-6:] == ["run", "nightly.yaml", "--run-id", RUN, "--logical-date", DATE]
    # Where a name stands twice the last one counts.
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert variables["PYSPARK_PYTHON"] == variables["PYSPARK_DRIVER_PYTHON"] == PYTHON
    assert variables["PYTHONSAFEPATH"] == "1"
    uploaded = {path.name: path for path in stage.rglob("*") if path.is_file()}
    assert uploaded["nightly.yaml"].read_bytes() == config.read_bytes()
    assert {re.sub(r"[0-9a-f]{64}", "DIGEST", name) for name in uploaded} == {
        "main.py",
        "nightly.yaml",
        "code-DIGEST.zip",
    }
    assert "spark.executor.resource.gpu.discoveryScript=/opt/batchscore/gpus.sh" in api.properties
